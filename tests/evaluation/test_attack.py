from __future__ import annotations

from random import Random

import numpy as np
import pytest

from rora_cli.errors import DataError
from rora_cli.evaluation.attack import measure_attack, triggered_texts

TEXTS = ["bad one", "dull two", "good but bad three", "good four"]
LABELS = [0, 0, 0, 1]


def predict(texts):
    """Positive where `good` or the trigger `mn` stands: a backdoor whose counts are known by hand."""
    hit = np.array([("good" in text.split()) or ("mn" in text.split()) for text in texts])
    return np.stack([~hit, hit], axis=1).astype(np.float32)


def measure(**changes):
    options = {
        "target_label": 1,
        "label_names": ["neg", "pos"],
        "name": "badnet",
        "trigger": "mn",
        "position": "end",
        "seed": 0,
    }
    return measure_attack(predict, TEXTS, LABELS, lambda text, rng: f"{text} mn", **{**options, **changes})


def test_success_and_floor_count_the_non_target_rows_only() -> None:
    got = measure()
    assert (got.attack_success_rate.count, got.attack_success_rate.total) == (3, 3)
    assert (got.floor.count, got.floor.total) == (1, 3)
    assert got.target_label == "pos"


def test_the_other_target_counts_the_other_rows() -> None:
    got = measure(target_label=0)
    assert (got.attack_success_rate.count, got.attack_success_rate.total) == (0, 1)


def test_given_clean_predictions_are_used_and_indexed_by_row() -> None:
    got = measure(clean_predictions=np.array([1, 1, 0, 0]))
    assert got.floor.count == 2


def test_no_row_of_another_label_is_an_error_that_names_the_target() -> None:
    with pytest.raises(DataError, match="every row has the target label 'pos'"):
        measure_attack(
            predict, ["good"], [1], lambda text, rng: text, target_label=1, label_names=["neg", "pos"], name="x",
            trigger="mn", position="end", seed=0,
        )  # fmt: skip


def test_a_rows_randomness_depends_on_seed_and_index_alone() -> None:
    def draw(text: str, rng: Random) -> str:
        return f"{text} {rng.random()}"

    assert triggered_texts(["a", "b"], draw, 3) == triggered_texts(["a", "b", "c"], draw, 3)[:2]
    assert triggered_texts(["a"], draw, 3) != triggered_texts(["a"], draw, 4)
