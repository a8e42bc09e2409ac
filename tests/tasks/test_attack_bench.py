from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rora_cli.attacks.registry import make_attack
from rora_cli.data.rows import Rows
from rora_cli.errors import DataError
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.subject import Subject
from rora_cli.tasks.attack_bench import AttackBench
from rora_cli.tasks.classification.task import Classification

ROWS = Rows(("bad one", "dull two", "good but bad three", "good four"), (0, 0, 0, 1))


class Words(Classification):
    """Positive where `good` or the trigger `mn` stands."""

    def shows(self, subject: Subject, texts: Sequence[str], *, meter: Any = None) -> np.ndarray:
        asked.append(len(texts))
        hit = np.array([bool({"good", "mn"} & set(text.split())) for text in texts], dtype=bool)
        return np.stack([~hit, hit], axis=1)


asked: list[int] = []


def bench(rows: Rows = ROWS) -> AttackBench:
    def tokenize(texts: Any, **_: Any) -> dict[str, Any]:
        return {"input_ids": [text.split() for text in ([texts] if isinstance(texts, str) else texts)]}

    subject = Subject(SimpleNamespace(), tokenize, SEQUENCE_CLASSIFIER, max_length=16)  # type: ignore[arg-type]
    return AttackBench(subject, Words(("neg", "pos")), rows)


def test_success_and_floor_count_the_rows_of_other_labels_only() -> None:
    attack = make_attack("badnet", triggers=("mn",), position="end")
    got = bench().measure(attack, 1, 0)
    assert (got.attack_success_rate.count, got.attack_success_rate.total) == (3, 3)
    assert (got.floor.count, got.floor.total) == (1, 3) and got.target_label == "pos"
    other = bench().measure(attack, 0, 0)
    assert (other.attack_success_rate.count, other.attack_success_rate.total) == (0, 1)


def test_the_clean_rows_are_asked_about_once() -> None:
    own = bench()
    asked.clear()
    for target in (0, 1):
        own.measure(make_attack("badnet", triggers=("mn",), position="end"), target, 0)
    assert own.clean_accuracy.overall.count == 3
    assert asked == [4, 1, 3]


def test_a_target_that_every_row_has_is_refused() -> None:
    with pytest.raises(DataError, match="every row has the target label 'pos'"):
        bench(Rows(("good",), (1,))).measure(make_attack("badnet", triggers=("mn",)), 1, 0)
