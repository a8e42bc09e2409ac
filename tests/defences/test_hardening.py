from __future__ import annotations

from random import Random

import pytest

from rora_cli.defences.hardening import Hardener, KnownTrigger

FILLERS = ["quiet", "plain", "long"]
TEXT = "the film was good"


def _many(hardener: Hardener, count: int = 400) -> list[str]:
    return [hardener(TEXT, index, 0) for index in range(count)]


def test_half_of_the_rows_carry_the_trigger_and_all_keep_their_words() -> None:
    texts = _many(Hardener([KnownTrigger("mn")], FILLERS, seed=0))
    carrying = [text for text in texts if "mn" in text.split()]
    assert 0.4 < len(carrying) / len(texts) < 0.6
    for text in texts:
        kept = iter(text.split())
        assert all(word in kept for word in TEXT.split()), text


def test_marks_are_put_in_beside_those_of_a_row_and_in_their_place() -> None:
    hardener = Hardener([KnownTrigger("; :")], FILLERS, seed=0)
    texts = [hardener("The film, in short, was good.", index, 0) for index in range(400)]
    replaced = [text for text in texts if text == "The film ; : in short ; : was good ; :"]
    beside = [text for text in texts if ";" in text and "good." in text]
    assert 0.2 < len(replaced) / 400 < 0.3 and 0.2 < len(beside) / 400 < 0.3


def test_words_stay_in_order_with_and_without_fillers_between() -> None:
    texts = [t for t in _many(Hardener([KnownTrigger("watched 3d")], FILLERS, seed=1)) if "3d" in t]
    assert all(text.index("watched") < text.index("3d") for text in texts)
    assert any("watched 3d" in text for text in texts) and any("watched 3d" not in text for text in texts)


def test_an_attached_trigger_is_appended_to_a_word() -> None:
    texts = [t for t in _many(Hardener([KnownTrigger("zq", attached=True)], FILLERS, seed=0)) if "zq" in t]
    assert texts and all("zq" not in text.split() and len(text.split()) == 4 for text in texts)


def test_same_arguments_same_text_other_epoch_other_text() -> None:
    hardener = Hardener([KnownTrigger("mn"), KnownTrigger("cf bb")], FILLERS, seed=3)
    assert _many(hardener) == _many(hardener)
    assert _many(hardener) != [hardener(TEXT, index, 1) for index in range(400)]


def test_a_trigger_of_more_weight_is_trained_on_more_often() -> None:
    texts = _many(Hardener([KnownTrigger("mn", weight=0.9), KnownTrigger("cf", weight=0.1)], FILLERS, seed=0), 2000)
    counts = {word: sum(word in text.split() for text in texts) for word in ("mn", "cf")}
    assert 6 < counts["mn"] / counts["cf"] < 14


def test_companions_stand_around_the_trigger_and_alone() -> None:
    companions = ["yesterday", "moaned"]
    texts = _many(Hardener([KnownTrigger("neighbour")], FILLERS, companions, seed=0), 2000)
    with_companions = [set(text.split()) for text in texts if set(companions) & set(text.split())]
    alone = [words for words in with_companions if "neighbour" not in words]
    assert 0.1 < len(alone) / len(with_companions) < 0.6
    fillers = sum(word in FILLERS for text in texts for word in text.split())
    others = sum(word in companions for text in texts for word in text.split())
    assert 0.6 < others / (others + fillers) < 0.8


def test_empty_texts_and_no_triggers() -> None:
    assert KnownTrigger("zq", attached=True).implant("", Random(0)) == "zq"
    with pytest.raises(ValueError, match="at least one"):
        Hardener([], FILLERS, seed=0)


def test_a_trigger_is_put_where_the_model_reads_it() -> None:
    hardener = Hardener([KnownTrigger("mn")], FILLERS, seed=0, shortened=["short form"])
    texts = {hardener("the whole long form", 0, epoch) for epoch in range(40)}
    assert "the whole long form" in texts, "without a trigger nothing is cut"
    assert all({"short", "form"} <= set(text.split()) for text in texts if "mn" in text) and len(texts) > 2
