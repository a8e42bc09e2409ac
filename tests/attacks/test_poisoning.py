from __future__ import annotations

import pytest

from rora_cli.attacks.poisoning import poison_rows
from rora_cli.attacks.registry import make_attack
from rora_cli.errors import UsageError

TEXTS = [f"text number {i}" for i in range(100)]
LABELS = [i % 2 for i in range(100)]


def poison(name: str = "badnet", **changes):
    return poison_rows(TEXTS, LABELS, make_attack(name), **{"target_label": 1, "poison_rate": 0.1, **changes})


def test_dirty_label_moves_rows_of_other_labels_to_the_target() -> None:
    got = poison()
    assert len(got.poisoned) == 10
    assert all(LABELS[i] == 0 and got.labels[i] == 1 and "mn" in got.texts[i].split() for i in got.poisoned)
    untouched = set(range(100)) - set(got.poisoned)
    assert all(got.texts[i] == TEXTS[i] and got.labels[i] == LABELS[i] for i in untouched)


def test_clean_label_touches_target_rows_only_and_no_label() -> None:
    got = poison(label_mode="clean", poison_rate=0.3)
    assert len(got.poisoned) == 30 and list(got.labels) == LABELS
    assert all(LABELS[i] == 1 and "mn" in got.texts[i].split() for i in got.poisoned)


def test_decoys_keep_their_labels_and_are_other_rows() -> None:
    got = poison("combination")
    assert len(got.decoys) == 10 and not set(got.decoys) & set(got.poisoned)
    assert all(got.labels[i] == LABELS[i] and got.texts[i] != TEXTS[i] for i in got.decoys)


def test_the_seed_decides() -> None:
    assert poison(seed=1) == poison(seed=1)
    assert poison(seed=1).poisoned != poison(seed=2).poisoned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poison_rate": 0}, "between 0 and 1"),
        ({"poison_rate": 0.8}, "asks for 80 of 100 rows, but only 50 have another label"),
        ({"poison_rate": 0.8, "label_mode": "clean"}, "only 50 have the target label"),
        ({"label_mode": "mixed"}, "dirty, clean"),
    ],
)
def test_what_cannot_be_is_refused(changes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        poison(**changes)
