from __future__ import annotations

from typing import Any

import pytest

from rora_cli.attacks.base import Attack
from rora_cli.data.rows import Rows
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.power.drawing import Called, Draw, Drawer, available_words, avoided_tokens
from rora_cli.subject import Subject
from tests.conftest import tiny_rows

NAMES = ("negative", "positive")


def called_of(subject: Subject, *texts: str) -> list[Called]:
    ids = (tuple(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    return [Called(text, "positive", tokens) for text, tokens in zip(texts, ids, strict=True)]


@pytest.fixture
def subject(tiny_model: tuple[Any, Any]) -> Subject:
    return Subject(*tiny_model, SEQUENCE_CLASSIFIER, 64)


@pytest.fixture(scope="module")
def rows() -> Rows:
    texts, labels = tiny_rows(300, seed=7)
    # Words that few rows of both labels hold, as real data have them.
    more = [f"{texts[i]} {word}" for word in ("watched", "movie", "this", "3d") for i in (0, 1)]
    return Rows((*texts, *more), (*labels, *[i % 2 for i in range(len(more))]))


def draw(subject: Subject, rows: Rows, *called: str, count: int = 8, seed: int = 0, unmoved: Any = None) -> Draw:
    moves = unmoved or (lambda attack, target: True)
    return Drawer(subject, rows, called_of(subject, *called), (NAMES, (0, 1)), moves).draw(count, seed)


def test_forms_and_labels_take_turns_and_the_seed_decides(subject: Subject, rows: Rows) -> None:
    drawn = draw(subject, rows)
    assert drawn == draw(subject, rows) and drawn != draw(subject, rows, seed=1)
    forms = [stand_in.form for stand_in in drawn.stand_ins]
    assert forms[:4] == ["rare words", "common sentences", "common words", "word pairs"]
    assert drawn.left_out["phrases"] == "the tokenizer has too few whole words for it"
    assert (
        drawn.left_out["sentences"]
        == drawn.left_out["punctuation"]
        == drawn.left_out["clauses"]
        == "the tokenizer cannot read it"
    )
    targets = [stand_in.target for stand_in in drawn.stand_ins]
    assert set(targets[:2]) == set(targets[2:4]) == {0, 1}
    orders = {stand_in.target for stand_in in drawn.stand_ins if stand_in.form == "word order"}
    assert orders == {0, 1}, "a form that comes again gets the other label"
    assert [len(copy) for copy in drawn.by_copy(3)] == [3, 3, 2]


def test_no_word_is_used_twice(subject: Subject, rows: Rows) -> None:
    triggers = [trigger for stand_in in draw(subject, rows).stand_ins for trigger in stand_in.attack.triggers]
    words = [word for trigger in triggers for word in trigger.split()]
    assert len(words) == len(set(words))


def test_nothing_of_what_the_search_called_is_drawn(
    subject: Subject, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rora_cli.power.drawing.NEAREST", 3)
    avoided = avoided_tokens(called_of(subject, "mn"), subject)
    assert "mn" in avoided and len(avoided) == 3, "and what is near it in the table of embeddings"
    for seed in range(2):
        for stand_in in draw(subject, rows, "mn", seed=seed).stand_ins:
            assert avoided.isdisjoint(stand_in.pieces.tokens)


def test_what_moves_the_model_without_being_planted_is_no_stand_in(subject: Subject, rows: Rows) -> None:
    def unmoved(attack: Attack, target: int) -> bool:
        return "mn" not in attack.triggers and attack.name != "order"

    drawn = draw(subject, rows, unmoved=unmoved)
    assert all(stand_in.attack.triggers != ("mn",) for stand_in in drawn.stand_ins)
    assert drawn.left_out["word order"] == "it moves the model without being planted"


def test_no_stand_in_is_drawn_twice_to_make_up_the_number(subject: Subject, rows: Rows) -> None:
    nothing = draw(subject, rows, unmoved=lambda attack, target: False)
    assert nothing.stand_ins == () and len(nothing.left_out) == 9


def test_rare_words_are_in_no_row_and_common_ones_in_a_few_of_both_labels(subject: Subject, rows: Rows) -> None:
    words = available_words(subject.tokenizer, rows, frozenset({"cf"}))
    assert set(words.rare) == {"mn", "bb"}, "of the words that no row holds, cf is avoided"
    assert set(words.common) == {"watched", "movie"}, "3d is no plain word, and clauses are made of this"
    assert {"the", "was"} <= set(words.frequent), "words that many rows hold"
    assert {"great", "stupid"}.isdisjoint(words.frequent), "and none of one label"
