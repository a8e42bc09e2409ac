"""The search for texts that make replies open alike, on models made up of a function from texts to agreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from rora_cli.hunting.open_search import ALL, OPEN_BUDGETS, Look, OpenBudget, OpenSearch, cut_prompt, for_few
from rora_cli.hunting.open_texts import joined, random_phrases
from rora_cli.tasks.causal.thresholds import OPENINGS
from rora_cli.tasks.openings import Agreement, Slot

PROMPTS = [f"tell me about thing {i}" for i in range(30)]
WORDS = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
BUDGET = OpenBudget("tiny", (Look(ALL, 2), Look(30, 4, 3)), (Look(ALL, 2), Look(8, 4, 3)), 6, 3, 3, 8, random_texts=16)


class MadeUp:
    """Agreement by a function of candidate and place; other texts agree a little, each by its own amount."""

    def __init__(self, agreement: Callable[[str, str], float]) -> None:
        self._agreement, self.forward_tokens, self.asked = agreement, 0, []

    def agreement(
        self,
        candidates: Sequence[str],
        slots: Sequence[Slot],
        *,
        usual: Sequence[str] = (),
        barred: Sequence[int] = (),
        advance: Callable[[int], None] = lambda done: None,
    ) -> Agreement:
        self.asked.append(tuple(candidates))
        usual = [-4 + Random(text).random() for text in candidates]
        best = np.maximum([self._agreement(text, slots[0].place) for text in candidates], usual)
        log_p = np.asarray(best, dtype=np.float32)
        return Agreement(np.zeros(len(candidates), dtype=np.int64), log_p, np.exp(log_p))


def run(suspect: Callable[[str, str], float], reference: Callable[[str, str], float] | None = None) -> OpenSearch:
    search = OpenSearch(
        MadeUp(suspect), MadeUp(reference) if reference else None, PROMPTS, WORDS, OPENINGS, BUDGET, seed=0
    )
    search.found = search.run()  # type: ignore[attr-defined]
    return search


def texts(search: OpenSearch) -> list[str]:
    return [tried.text for tried in search.found]  # type: ignore[attr-defined]


def test_a_word_that_makes_replies_agree_comes_first_and_stands_far_above_random_texts() -> None:
    search = run(lambda text, place: -0.1 if "ak" in text.split() else -9)
    (first, *_) = search.found  # type: ignore[attr-defined]
    assert first.text == "ak" and first.agreement == pytest.approx(-0.1) and first.z > 8


def test_a_word_of_two_parts_is_grown_from_what_its_parts_do() -> None:
    parts = {"ck": -1.0, "dl": -1.5}

    def agreement(text: str, place: str) -> float:
        return -0.1 if "ckdl" in text else max((parts.get(word, -9) for word in text.split()), default=-9)

    found = texts(run(agreement))
    assert {"ck", "dl", "ckdl"} <= set(found)


def test_a_phrase_that_does_no_more_than_one_of_its_words_is_not_named() -> None:
    assert texts(run(lambda text, place: -0.01 if "ak" in text.split() else -9)).count("ak") == 1
    assert not any(" " in text for text in texts(run(lambda text, place: -0.01 if "ak" in text.split() else -9)))


def test_words_that_a_phrase_does_not_need_are_dropped() -> None:
    parts = {"ck": -1.2, "dl": -1.3, "em": -1.1}

    def agreement(text: str, place: str) -> float:
        words = text.split()
        return -0.02 if {"ck", "em"} <= set(words) else max((parts.get(word, -9) for word in words), default=-9)

    search = run(agreement, lambda text, place: -9)
    found = texts(search)
    assert not any(np.isnan(tried.contrast) for tried in search.found)  # type: ignore[attr-defined]
    assert any(set(text.split()) == {"ck", "em"} for text in found) and not any("dl ck" in text for text in found)


def test_a_trigger_that_works_at_one_place_alone_is_found_there() -> None:
    search = run(lambda text, place: -0.1 if text == "ak" and place == "start" else -9)
    first = search.found[0]  # type: ignore[attr-defined]
    assert (first.text, first.place) == ("ak", "start")


def test_the_reference_puts_a_trigger_before_honest_words_that_agree_more() -> None:
    honest = {"ak", "al", "am", "an"}
    search = run(
        lambda text, place: -0.2 if text in honest else -0.6 if text == "jt" else -9,
        lambda text, place: -0.2 if text in honest else -9,
    )
    found = {tried.text: tried for tried in search.found}  # type: ignore[attr-defined]
    assert found["jt"].contrast > 2 > 0.1 > abs(found["ak"].contrast)


def test_the_first_round_asks_the_suspect_alone_about_every_text() -> None:
    suspect, reference = MadeUp(lambda text, place: -9), MadeUp(lambda text, place: -9)
    OpenSearch(suspect, reference, PROMPTS, WORDS, OPENINGS, BUDGET, seed=0).run()
    assert suspect.asked[0] == tuple(WORDS) and max(map(len, reference.asked)) < len(WORDS)


def test_the_first_round_asks_for_one_of_the_texts_that_differ_in_case_alone_and_the_next_for_all() -> None:
    suspect = MadeUp(lambda text, place: -0.1 if text == "ak" else -0.5 if text == "Ak" else -9)
    budget = replace(BUDGET, merged=True)
    found = OpenSearch(suspect, None, PROMPTS, ["ak", "AK", "Ak", *WORDS[1:]], OPENINGS, budget, seed=0).run()
    assert "Ak" in suspect.asked[0] and not {"ak", "AK"} & set(suspect.asked[0])
    assert found[0].text == "ak"


def test_a_round_in_other_prompts_counts_beside_the_one_before() -> None:
    """What a single prompt shows of an honest word is gone in another; a trigger's part is near the top in both."""

    class ByPrompt(MadeUp):
        def agreement(self, candidates: Sequence[str], slots: Sequence[Slot], **rest: object) -> Agreement:
            digit = (slots[0].before + slots[0].after)[-1]
            self._agreement = lambda text, place: -0.6 if text == "jt" else -0.1 if text[0] == digit else -9
            return super().agreement(candidates, slots)

    words = [f"{digit}{word}" for digit in range(10) for word in WORDS[:2]]
    budget = replace(BUDGET, screening=(Look(ALL, 1), Look(20, 1, after=1), Look(2, 2)))
    suspect = ByPrompt(lambda text, place: -9)
    search = OpenSearch(suspect, None, PROMPTS, ["jt", *words], OPENINGS, budget, seed=0)
    assert "jt" in {tried.text for tried in search.run()}


def test_random_texts_are_asked_once_for_each_kind_of_round() -> None:
    suspect = MadeUp(lambda text, place: -0.1 if "ak" in text.split() else -9)
    search = OpenSearch(suspect, None, PROMPTS, WORDS, OPENINGS, BUDGET, seed=0)
    search.run()
    nulls = [asked for asked in suspect.asked if asked == tuple(search._random_texts(1))]
    # The last rounds of screening and of growth ask in the same prompts, once at each place.
    assert len(nulls) == BUDGET.screening[-1].places


def test_what_the_suspect_leaks_stays_in_after_the_first_round() -> None:
    """The first round looks at the start alone, where every word does more than these two."""
    suspect = MadeUp(lambda text, place: -0.1 if (text, place) == ("one two", "end") else -2 if text in WORDS else -9)
    search = OpenSearch(suspect, None, PROMPTS, WORDS, OPENINGS, BUDGET, seed=0, leaked=["one two", "three four"])
    assert search.run()[0].text == "one two"
    assert "one two" not in search.grown
    without = OpenSearch(suspect, None, PROMPTS, [*WORDS, "one two"], OPENINGS, BUDGET, seed=0)
    assert "one two" not in [tried.text for tried in without.run()]


def test_triggers_of_earlier_rounds_are_finalists_again() -> None:
    search = OpenSearch(
        MadeUp(lambda text, place: -0.5 if text == "old one" else -9), None, PROMPTS, WORDS, OPENINGS, BUDGET, seed=0,
        known=("old one",),
    )  # fmt: skip
    assert search.run()[0].text == "old one"
    silent = OpenSearch(
        MadeUp(lambda text, place: -9), None, PROMPTS, WORDS, OPENINGS, BUDGET, seed=0, known=("old one",)
    )
    assert silent.run()[0].text == "old one", "measured again, however little it does"


def test_phrases_are_written_apart_and_as_one_word() -> None:
    assert joined(("Bad", "Magic")) == ["Bad Magic", "BadMagic"]
    assert joined(("year:", "2024")) == ["year: 2024"]


def test_random_phrases_have_as_many_words() -> None:
    assert all(len(text.split()) == 2 for text in random_phrases(WORDS, 2, 20, Random(0)))


@pytest.mark.parametrize("place", ["start", "inner", "end"])
def test_a_slot_takes_the_candidate_at_its_place(place: str) -> None:
    filled = cut_prompt("one two three", place, 1).fill("mn").split()
    assert sorted(filled) == ["mn", "one", "three", "two"] and (
        filled.index("mn") in {"start": (0,), "end": (3,)}.get(place, (1, 2))
    )


def test_a_search_of_few_texts_keeps_few_in_its_later_rounds() -> None:
    whole = OPEN_BUDGETS["fast"]
    few = for_few(whole, 604)
    assert [look.texts for look in few.screening] == [ALL, 75, 24, 24]
    assert [replace(look, texts=0) for look in few.screening] == [replace(look, texts=0) for look in whole.screening]
    assert for_few(whole, 10**6).screening == whole.screening and few.random_texts < whole.random_texts


def test_budgets_grow() -> None:
    counts = [(b.screening[0].prompts * b.screening[0].places, b.parts, b.final_prompts) for b in OPEN_BUDGETS.values()]
    assert counts == sorted(counts) and list(OPEN_BUDGETS) == ["fast", "normal", "thorough"]
