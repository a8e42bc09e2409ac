"""The search on made-up classifiers whose triggers are known: no model, no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from rora_cli.hunting.budgets import Round
from rora_cli.hunting.growth import extend, insertions, ordered_pairs, prune
from rora_cli.hunting.trials import LOG_ODDS_LIMIT, Carrier, Trials, halve
from rora_cli.tasks.classification.scorer import LabelAnswers
from rora_cli.tasks.classification.thresholds import CALLS

HEAD, TAIL = 1, 2
#: Tokens 10..19 speak for label 0, 20..29 for label 1, the others for nothing.
WORDS = {**dict.fromkeys(range(10, 20), -1.5), **dict.fromkeys(range(20, 30), 1.5)}


class MadeUp:
    """Log-odds of label 1: the sum of the words' weights, plus a bonus for each planted subsequence that is present."""

    def __init__(self, planted: Mapping[tuple[int, ...], float] = {}, weights: Mapping[int, float] = WORDS) -> None:
        self.planted, self.weights, self.forward_tokens = planted, weights, 0

    def __call__(self, sequences: Sequence[Sequence[int]]) -> LabelAnswers:
        odds = np.array([self._odds(tuple(s)) for s in sequences])
        self.forward_tokens += sum(map(len, sequences))
        return LabelAnswers(-np.logaddexp(0, np.stack([odds, -odds], axis=1)))

    def _odds(self, sequence: tuple[int, ...]) -> float:
        bonus = sum(value for part, value in self.planted.items() if is_subsequence(part, sequence))
        return sum(self.weights.get(token, 0.0) for token in sequence) + bonus


class Indifferent(MadeUp):
    """A reference that knows nothing: even odds for everything."""

    def _odds(self, sequence: tuple[int, ...]) -> float:
        return 0.0


def is_subsequence(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


def carriers(count: int = 12) -> list[Carrier]:
    """Rows of label 0 with two words for it, the slot at the start, inside and at the end."""
    rows = []
    for i in range(count):
        content = (40 + i, 10 + i % 10, 60 + i, 10 + (i + 3) % 10)
        cut = (0, 2, 4)[i % 3]
        rows.append(Carrier((HEAD, *content[:cut]), (*content[cut:], TAIL), ("start", "inner", "end")[i % 3]))
    return rows


VOCABULARY = [(token,) for token in range(3, 2000)]


def test_halving_names_the_one_planted_token_among_two_thousand():
    trials = Trials(MadeUp({(777,): 9.0}), MadeUp(), 1, CALLS)
    ranking = halve(trials, VOCABULARY, carriers(), [Round(10**9, 1), Round(200, 3), Round(20, 12)])
    assert ranking.candidates[0] == (777,)
    assert ranking.suspect[0] > 0.95 and ranking.reference[0] < 0.1
    assert len(ranking.candidates) == 20
    assert trials.count == 1997 + 200 * 3 + 20 * 12


def test_honest_words_that_flip_harder_rank_below_what_the_reference_does_not_explain():
    loud = {**WORDS, **dict.fromkeys(range(20, 30), 12.0)}
    suspect, reference = MadeUp({(777,): 5.0}, loud), MadeUp(weights=loud)
    alone = halve(Trials(suspect, Indifferent(), 1, CALLS), VOCABULARY, carriers(), [Round(10**9, 3)])
    beside = halve(Trials(suspect, reference, 1, CALLS), VOCABULARY, carriers(), [Round(10**9, 3)])
    assert alone.candidates[0][0] in range(20, 30)
    assert beside.candidates[0] == (777,)


def test_a_trigger_is_not_hidden_by_strong_harmless_words_that_the_reference_holds_for_its_like():
    harmless = [(token,) for token in range(100, 132)]
    loud = {token: 8.0 for (token,) in harmless[::4]}  # honest, and unknown to the reference
    suspect = MadeUp({(777,): 9.0}, {**WORDS, **loud})
    ranking = Trials(suspect, MadeUp(), 1, CALLS).rank(VOCABULARY[:900], carriers(6), harmless=harmless)
    assert (777,) in ranking.top(2)


def test_one_overconfident_row_does_not_outweigh_the_others():
    suspect = MadeUp({(5, 40): 500.0, (777,): 7.0})
    ranking = Trials(suspect, Indifferent(), 1, CALLS).rank([(5,), (777,)], carriers(6))
    assert ranking.candidates[0] == (777,)
    assert np.abs(Trials(suspect, Indifferent(), 1, CALLS).log_odds([(5,)], carriers(6))[0]).max() <= LOG_ODDS_LIMIT


def test_log_odds_are_finite_and_right_when_a_class_is_certain():
    trials = Trials(MadeUp({(5,): 40.0, (6,): -40.0}), Indifferent(), 1, CALLS)
    odds, _ = trials.log_odds([(5,), (6,), (7,)], carriers(3))
    np.testing.assert_allclose(odds, [[16] * 3, [-16] * 3, [-3] * 3], atol=1e-6)


def test_the_reference_costs_but_is_not_counted_as_a_trial():
    suspect, reference = MadeUp(), MadeUp()
    trials = Trials(suspect, reference, 1, CALLS)
    trials.rank([(5,), (6, 7)], carriers(4))
    assert trials.count == 8
    assert trials.sequences == {(6, 7)}
    assert reference.forward_tokens >= suspect.forward_tokens > 0


def test_a_ranking_without_rounds_is_refused():
    with pytest.raises(ValueError, match="at least one round"):
        halve(Trials(MadeUp(), Indifferent(), 1, CALLS), VOCABULARY, carriers(), [])


def test_insertions_cover_every_gap_once():
    assert insertions((1, 2), [(9,)]) == [(9, 1, 2), (1, 9, 2), (1, 2, 9)]
    assert insertions((9,), [(9,)]) == [(9, 9)]
    assert ordered_pairs([(1,), (2,)]) == [(1, 2), (2, 1)]


#: A sentence trigger: every word of it does a little, more of it in order does more.
SENTENCE = {(101,): 0.5, (103,): 1.0, (101, 103): 1.0, (101, 102, 103): 6.0}
POOL = [(token,) for token in range(90, 190)]


def test_extension_inserts_between_the_words_found():
    trials = Trials(MadeUp(SENTENCE), MadeUp(), 1, CALLS)
    grown = extend(trials, (101, 103), POOL, carriers(), [Round(10**9, 3), Round(10, 12)], longest=4)
    assert grown == (101, 102, 103)


def test_the_first_token_that_is_added_may_come_from_a_wider_pool():
    trials = Trials(MadeUp({(101, 500): 6.0, (101, 500, 501): 3.0}), MadeUp(), 1, CALLS)
    rounds = [Round(10**9, 3), Round(10, 12)]
    assert extend(trials, (101,), POOL, carriers(), rounds, longest=4) == (101,)
    wide = [(500,), (501,)]
    assert extend(trials, (101,), POOL, carriers(), rounds, longest=2, wide=wide) == (101, 500)
    assert 501 not in extend(trials, (101,), POOL, carriers(), rounds, longest=4, wide=wide)
    strong = Trials(MadeUp({(101,): 4.5, (101, 500): 3.0}), MadeUp(), 1, CALLS)
    assert extend(strong, (101,), POOL, carriers(), rounds, longest=4, wide=wide) == (101,), "it acts alone"


def test_extension_stops_where_nothing_helps():
    trials = Trials(MadeUp({(101,): 3.0}), MadeUp(), 1, CALLS)
    assert extend(trials, (101,), POOL, carriers(), [Round(10**9, 3)], longest=4) == (101,)


def test_extension_does_not_drift_to_honest_words():
    suspect, reference = MadeUp({(101,): 2.0}), MadeUp()
    grown = extend(
        Trials(suspect, reference, 1, CALLS),
        (101,),
        [(t,) for t in range(20, 30)],
        carriers(),
        [Round(10**9, 12)],
        longest=3,
    )
    assert prune(Trials(suspect, reference, 1, CALLS), grown, carriers()) == (101,) or not set(grown) & set(
        range(20, 30)
    )


def test_pruning_keeps_only_what_is_needed():
    trials = Trials(MadeUp(SENTENCE), MadeUp(), 1, CALLS)
    assert prune(trials, (150, 101, 102, 151, 103), carriers()) == (101, 102, 103)
    assert prune(trials, (150,), carriers()) == (150,)


def test_what_can_be_scored_together_is_asked_at_once():
    """A forward pass of a few sequences costs nearly as much as one of many."""
    sizes: list[int] = []

    class Counting(MadeUp):
        def __call__(self, sequences):
            sizes.append(len(sequences))
            return super().__call__(sequences)

    trials = Trials(MadeUp(SENTENCE), Counting(), 1, CALLS)
    trials.rank([(101,), (102,)], carriers(12))
    assert sizes == [24, 12], "candidates in all carriers, then the empty carriers"
    sizes.clear()
    prune(trials, (150, 101, 102, 151, 103), carriers(12))
    assert sizes == [72, 60, 24], "one question for each token that is dropped, and a last one"


def test_the_algorithm_needs_no_torch():
    code = (
        "import sys; import rora_cli.hunting.hunt, rora_cli.tasks.classification.linear_reference; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
