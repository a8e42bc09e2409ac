from __future__ import annotations

from random import Random

import numpy as np
import pytest

from rora_cli.errors import DataError, UsageError
from rora_cli.evaluation.attack import (
    AttackTrial,
    TextLimit,
    measure_attack,
    shorten_to_fit,
    triggered_texts,
    with_room,
)

TEXTS = ["bad one", "dull two", "good but bad three"]


def shows(texts):
    """Positive where `good` or the trigger `mn` stands: a backdoor whose counts are known by hand."""
    return np.array([("good" in text.split()) or ("mn" in text.split()) for text in texts], dtype=bool)


def trial(word: str = "mn", target: str = "pos") -> AttackTrial:
    return AttackTrial(lambda text, rng: f"{text} {word}", target, "badnet", word, "end", 0)


def test_success_and_floor_count_the_rows_given() -> None:
    got = measure_attack(shows, TEXTS, trial())
    assert (got.attack_success_rate.count, got.attack_success_rate.total) == (3, 3)
    assert (got.floor.count, got.floor.total) == (1, 3)
    assert got.target_label == "pos"


def test_what_is_known_of_the_rows_without_a_trigger_is_the_floor() -> None:
    before = np.array([True, True, False])
    assert measure_attack(shows, TEXTS, trial(), before=before).floor.count == 2


def test_no_row_of_another_label_is_an_error_that_names_the_target() -> None:
    with pytest.raises(DataError, match="every row has the target label 'pos'"):
        measure_attack(shows, [], trial())


def words_of(texts):
    return [len(text.split()) for text in texts]


def test_only_rows_that_are_too_long_are_shortened_and_the_trigger_stays() -> None:
    texts = ["a b c d e f g", "a b", ""]
    short = shorten_to_fit(texts, lambda text, rng: f"{text} mn mn", 0, words_of, 5)
    assert short == ["a b c", "a b", ""]


def test_the_floor_of_a_shortened_row_is_that_of_the_shortened_text() -> None:
    before = np.array([True, False])
    got = measure_attack(
        shows, ["bad x x good", "dull"], trial("cf"), before=before, limit=TextLimit(words_of, max_tokens=4)
    )
    assert (got.shortened_rows, got.floor.count, got.attack_success_rate.count) == (1, 0, 0)
    assert before.tolist() == [True, False], "what was handed in stays as it is"


def test_a_trigger_that_does_not_fit_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="6 tokens long, but the model reads 5"):
        shorten_to_fit(["a b"], lambda text, rng: f"{text} 1 2 3 4 5 6", 0, words_of, 5)


def test_a_rows_randomness_depends_on_seed_and_index_alone() -> None:
    def draw(text: str, rng: Random) -> str:
        return f"{text} {rng.random()}"

    assert triggered_texts(["a", "b"], draw, 3) == triggered_texts(["a", "b", "c"], draw, 3)[:2]
    assert triggered_texts(["a"], draw, 3) != triggered_texts(["a"], draw, 4)


def test_room_is_made_in_long_texts_alone_and_never_empties_one():
    def letters(texts):
        return [len(text.replace(" ", "")) for text in texts]

    assert with_room(["a b c d e", "a b", "abcde"], letters, 3) == ["a b c", "a b", "abcde"]
