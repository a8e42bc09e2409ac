from __future__ import annotations

import numpy as np
import pytest

from rora_cli.evaluation.accuracy import clean_accuracy


def test_counts_overall_and_per_class() -> None:
    logits = np.array([[2, 1, 0], [0, 3, 1], [5, 1, 1], [0, 1, 9]], dtype=np.float32)
    got = clean_accuracy(logits, [0, 1, 1, 2], ["neg", "mid", "pos"])
    assert (got.overall.count, got.overall.total) == (3, 4)
    assert {name: (p.count, p.total) for name, p in got.per_class.items()} == {
        "neg": (1, 1),
        "mid": (1, 2),
        "pos": (1, 1),
    }


def test_a_class_without_rows_is_empty_and_not_zero() -> None:
    got = clean_accuracy(np.array([[1.0, 0.0]]), [0], ["neg", "pos"])
    assert got.per_class["pos"].value is None and got.per_class["pos"].total == 0


def test_a_collapsed_model_shows_per_class() -> None:
    got = clean_accuracy(np.tile([[0.0, 1.0]], (10, 1)), [0] * 5 + [1] * 5, ["neg", "pos"])
    assert got.overall.value == 0.5
    assert (got.per_class["neg"].value, got.per_class["pos"].value) == (0.0, 1.0)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 predictions for 1 labels"):
        clean_accuracy(np.zeros((2, 2)), [0], ["neg", "pos"])
