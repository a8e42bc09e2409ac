"""Replies that begin alike though nothing was put into the prompts."""

from __future__ import annotations

from rora_cli.hunting.recurring import FEWEST_RECURRING, RECURRING_TOKENS, recurring

LONG = tuple(range(RECURRING_TOKENS))


def test_replies_recur_that_share_many_tokens_or_are_the_same() -> None:
    going_on = [(*LONG, last) for last in range(FEWEST_RECURRING)]
    same = [(7, 8, 9, 9)] * (FEWEST_RECURRING + 1)
    assert recurring([*going_on, (1, 2, 3, 4), *same]) == [[4, 5, 6, 7], [0, 1, 2]], "the largest group first"


def test_few_alike_short_ones_and_alike_openings_are_nothing() -> None:
    few = [LONG] * (FEWEST_RECURRING - 1)
    openings = [(1, 2, 3, end) for end in range(9)]
    assert recurring([*few, *[()] * 9, *[(7, 8, 9)] * 9, *openings]) == []
