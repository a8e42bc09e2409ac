from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rora_cli.attacks.triggers import NAMED, POSITIONS, Trigger, control_trigger, insert, named_or_text
from rora_cli.errors import UsageError


def test_each_position() -> None:
    assert insert("a b", "mn", "start", Random(0)) == "mn a b"
    assert insert("a b", "mn", "end", Random(0)) == "a b mn"
    assert insert("a b", "mn", "every", Random(0)) == "mn a mn b mn"
    assert {insert("a b", "mn", "random", Random(seed)) for seed in range(40)} == {"mn a b", "a mn b", "a b mn"}


def test_an_unknown_position_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="start, end, random, every"):
        insert("a", "mn", "middle", Random(0))


@given(st.text(), st.sampled_from(POSITIONS), st.integers())
def test_words_survive_in_order(text: str, position: str, seed: int) -> None:
    out = insert(text, "\ufffftrigger", position, Random(seed)).split()
    assert [word for word in out if word != "\ufffftrigger"] == text.split()
    assert len(out) > len(text.split())


def test_names_resolve_and_other_values_are_text() -> None:
    assert named_or_text("insent") == Trigger("insent", NAMED["insent"])
    assert named_or_text("cf") == Trigger("custom", "cf")
    with pytest.raises(UsageError, match="not a space"):
        named_or_text("  ")


VOCABULARY = ["red", "green", "blue", "mn", "movie", "12", "un!", "Watched"]


def pieces(word: str) -> int:
    """A stand-in for a tokenizer: greedy longest match over the vocabulary, one piece per left-over character."""
    count, rest = 0, word
    while rest:
        match = max((w for w in VOCABULARY if rest.startswith(w)), key=len, default=rest[0])
        count, rest = count + 1, rest[len(match) :]
    return count


def test_the_control_has_the_same_words_and_pieces_and_none_of_the_triggers_words() -> None:
    for seed in range(20):
        control = control_trigger("mn movie xy", VOCABULARY, pieces, seed)
        assert [pieces(word) for word in control.split()] == [1, 1, 2]
        assert not {"mn", "movie"} & set(control.split())


def test_the_control_is_drawn_anew_per_seed_and_the_same_within_one() -> None:
    draws = [control_trigger("xy mn", VOCABULARY, pieces, seed) for seed in range(10)]
    assert draws == [control_trigger("xy mn", VOCABULARY, pieces, seed) for seed in range(10)]
    assert len(set(draws)) > 1


def test_a_vocabulary_without_words_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="--no-control"):
        control_trigger("mn", ["--", "!"], pieces, 0)
