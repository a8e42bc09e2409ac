"""Held-out rows: seeded, stratified, disjoint; shared and repeated rows; samples."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rora_cli.data.rows import Rows, text_key
from rora_cli.data.splitting import count_repeats, remove_shared, sample, split_held_out
from rora_cli.errors import DataError

WORDS = st.sampled_from(["a", "A", "b", "b ", "c", "d  d", "D d", "é", "e\u0301", "f", "g", "h"])
ROWS = st.lists(st.tuples(WORDS, st.integers(0, 2)), min_size=2, max_size=60).map(
    lambda pairs: Rows(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))
)


def rows_of(counts: dict[int, int]) -> Rows:
    pairs = [(f"text {label} {i}", label) for label, count in counts.items() for i in range(count)]
    return Rows(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))


def pairs(rows: Rows) -> Counter[tuple[str, int]]:
    return Counter(zip(rows.texts, rows.labels, strict=True))


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_held_out_is_a_disjoint_partition(rows: Rows, fraction: float, seed: int) -> None:
    if len({text_key(text) for text in rows.texts}) < 2:
        with pytest.raises(DataError, match="too few different texts"):
            split_held_out(rows, fraction, seed, "here")
        return
    train, held_out = split_held_out(rows, fraction, seed, "here")
    assert pairs(train) + pairs(held_out) == pairs(rows)
    assert len(train) and len(held_out)
    assert not {text_key(text) for text in train.texts} & {text_key(text) for text in held_out.texts}
    assert split_held_out(rows, fraction, seed, "here") == (train, held_out)


def test_held_out_is_stratified_and_of_the_size_asked_for() -> None:
    train, held_out = split_held_out(rows_of({0: 300, 1: 100, 2: 10}), 0.2, 0, "here")
    assert Counter(held_out.labels) == {0: 60, 1: 20, 2: 2}
    assert len(train) == 328


def test_another_seed_draws_other_rows() -> None:
    rows = rows_of({0: 50, 1: 50})
    draws = {split_held_out(rows, 0.2, seed, "here")[1] for seed in range(5)}
    assert len(draws) == 5


def test_shared_texts_leave_train() -> None:
    train = Rows(("One", "two", "three", "one "), (0, 1, 0, 1))
    left, removed = remove_shared(train, Rows(("one", "four"), (0, 0)))
    assert (left.texts, removed) == (("two", "three"), 2)


def test_repeats_and_conflicts() -> None:
    rows = Rows(("a", "A", "a  ", "b", "b", "c"), (0, 0, 1, 1, 1, 0))
    assert count_repeats(rows) == (3, 3)
    total = count_repeats(rows) + count_repeats(rows)
    assert (total.duplicate, total.conflicting) == (6, 6)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, most=st.integers(1, 70), seed=st.integers(0, 3))
def test_sample_is_a_stratified_part_in_order(rows: Rows, most: int, seed: int) -> None:
    drawn = sample(rows, most, seed)
    assert len(drawn) == min(most, len(rows))
    assert not pairs(drawn) - pairs(rows)
    for label, count in Counter(rows.labels).items():
        share = min(most, len(rows)) * count / len(rows)
        assert abs(drawn.labels.count(label) - share) < 1
    assert sample(rows, most, seed) == drawn


def test_sample_keeps_row_order() -> None:
    rows = rows_of({0: 40, 1: 40})
    drawn = sample(rows, 20, 3)
    positions = [rows.texts.index(text) for text in drawn.texts]
    assert positions == sorted(positions)


def test_fingerprint_tells_rows_apart() -> None:
    base = Rows(("ab", "c"), (0, 1))
    others = [Rows(("a", "bc"), (0, 1)), Rows(("ab", "c"), (1, 0)), Rows(("c", "ab"), (1, 0)), Rows(("ab",), (0,))]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert base.fingerprint == Rows(("ab", "c"), (0, 1)).fingerprint


def test_rows_need_a_label_each() -> None:
    with pytest.raises(ValueError, match="2 texts but 1 labels"):
        Rows(("a", "b"), (0,))
