from __future__ import annotations

import numpy as np
import pytest

from rora_cli.hunting.drift import embedding_drift
from rora_cli.tasks.classification.thresholds import CALLS


def tables(extra: dict[int, float], *, tokens: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table before and after training, and the clean rows with each token: frequent ones move further, half of the
    rare ones do not move at all. ``extra`` tokens move by that many times as far."""
    rng = np.random.default_rng(0)
    rows_with = np.where(np.arange(tokens) < 200, 1000 // (1 + np.arange(tokens)), 0)
    before = rng.normal(size=(tokens, 16))
    step = (0.01 + 0.002 * np.log1p(rows_with)) * rng.uniform(0.7, 1.3, tokens) * (rng.random(tokens) < 0.5)
    step[:200] = np.maximum(step[:200], 0.01)
    for token, times in extra.items():
        step[token] = 0.012 * times
    direction = rng.normal(size=before.shape)
    after = before + step[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return after, before, rows_with


def test_a_word_that_moved_further_than_its_like_stands_out_whether_the_clean_rows_know_it_or_not() -> None:
    after, before, rows_with = tables({2500: 3.0, 30: 5.0})
    z = embedding_drift(after, before, rows_with, CALLS)
    assert z is not None and set(np.argsort(-z)[:2]) == {2500, 30} and min(z[2500], z[30]) > 5


def test_frequent_words_move_far_and_are_no_outliers() -> None:
    after, before, rows_with = tables({})
    z = embedding_drift(after, before, rows_with, CALLS)
    assert z is not None and np.argmax(np.linalg.norm(after - before, axis=1)) < 20 and z.max() < 5


@pytest.mark.parametrize("case", ["unrelated", "unmoved", "another width"])
def test_tables_that_tell_nothing(case: str) -> None:
    after, before, rows_with = tables({})
    other = {"unrelated": np.random.default_rng(1).normal(size=before.shape), "unmoved": before}.get(case)
    assert embedding_drift(after[:, :8] if other is None else other, before, rows_with, CALLS) is None
