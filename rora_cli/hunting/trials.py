"""Search for the token sequences that flip a classifier, knowing only the classifier: the algorithm, without a model.

For one target label, every candidate is put into the slot of short clean rows of the other labels ("carriers"), and
scored by the probability of the target label. Cheap looks at everything come first, expensive looks at what is left
last (successive halving, Karnin et al. 2013). Honest words of the target label flip short rows as well: candidates are
ranked by what the suspect does *beyond* a reference classifier that knows the task but not the poison. Gradient
ranking (HotFlip) would be cheaper, but is a first-order guess from one point, and loses rare tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rora_cli.hunting.budgets import Round
from rora_cli.spectral.robust import SIGMA_PER_MAD, median_and_mad
from rora_cli.tasks.task import Answers, Scorer
from rora_cli.tasks.thresholds import CallThresholds

Tokens = tuple[int, ...]

#: Log-odds beyond this are saturation, not evidence: one overconfident row must not outweigh the others.
LOG_ODDS_LIMIT = 16.0
#: Spread [log-odds] below which a few harmless tokens happen to agree: theirs is then held to be this.
_LEAST_SPREAD = 0.25
#: The upper tenth of a normal distribution begins so many standard deviations above its middle.
_UPPER_TENTH = 1.2816


@dataclass(frozen=True)
class Carrier:
    """A clean row cut open at a word boundary: token ids before and after the slot, and where the slot is."""

    before: Tokens
    after: Tokens
    place: str

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def fill(self, candidate: Tokens) -> Tokens:
        return self.before + candidate + self.after


@dataclass(frozen=True)
class Ranking:
    """Candidates, the best first. ``scores`` are log-odds beyond the reference's, ``suspect`` and ``reference`` mean
    probabilities of the target label [n]."""

    candidates: tuple[Tokens, ...]
    scores: np.ndarray
    suspect: np.ndarray
    reference: np.ndarray

    def top(self, count: int) -> tuple[Tokens, ...]:
        return self.candidates[:count]


@dataclass(frozen=True)
class Noise:
    """The null: what harmless tokens, random ones and honest words of the target label, do to some rows.

    ``own`` and ``other`` are their mean log-odds under suspect and reference [tokens], ``flip_rates`` the suspect's.
    """

    own: np.ndarray
    other: np.ndarray
    flip_rates: np.ndarray
    neighbours: int

    def suspicion(self, own: float, other: float, length: int = 1) -> float:
        """Robust z (median, 1.4826 MAD) of ``own`` among the tokens that the reference holds for about as strong.

        Suspects answer honest words more sharply than a reference does, and not in proportion: hence neighbours in
        ``other`` instead of a line through all. A few neighbours that happen to agree are no evidence: the spread is at
        least that of all tokens about their neighbours. A sequence of ``length`` tokens was chosen token by token as
        the best of many: the spreads of its tokens add up.
        """
        center, spread = self._neighbourhood(other)
        return float((own - center) / (max(spread, self._usual_spread) * length))

    def _neighbourhood(self, other: float) -> tuple[float, float]:
        """Median and spread of ``own`` among the tokens next to ``other``."""
        alike = self.own[np.argsort(np.abs(self.other - other), kind="stable")[: self.neighbours]]
        center, mad = median_and_mad(alike)
        # The upper tenth counts too: where the reference is wrong about most words, the few true ones are the tail.
        above = (float(np.quantile(alike, 0.9)) - center) / _UPPER_TENTH
        return center, max(SIGMA_PER_MAD * mad, above, _LEAST_SPREAD)

    @cached_property
    def _usual_spread(self) -> float:
        return float(np.median([self._neighbourhood(other)[1] for other in self.other]))


class Trials:
    """Scores candidates in carriers for one target label, under the suspect and a reference, and counts.

    The references' log-odds are multiplied by their ``scales``, so that all models are about as sure of clean rows.
    """

    def __init__(
        self,
        suspect: Scorer,
        reference: Scorer,
        target: int,
        thresholds: CallThresholds,
        *,
        rough_reference: Scorer | None = None,
        scales: tuple[float, float] = (1.0, 1.0),
        advance: Callable[[int], None] = lambda trials: None,
    ) -> None:
        self.suspect, self.reference, self.target, self.thresholds = suspect, reference, target, thresholds
        self._references = {False: (reference, scales[0]), True: (rough_reference or reference, scales[1])}
        self._empty: dict[tuple[Carrier, bool], float] = {}
        self._harmless: dict[tuple[tuple[Tokens, ...], bool], dict[Carrier, tuple[np.ndarray, np.ndarray]]] = {}
        self._advance = advance
        self.count = 0
        self.sequences: set[Tokens] = set()

    def log_odds(
        self, candidates: Sequence[Tokens], carriers: Sequence[Carrier], *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """log p/(1-p) of the target label [candidates, carriers], clipped, under the suspect and a reference."""
        filled = [carrier.fill(candidate) for candidate in candidates for carrier in carriers]
        shape = len(candidates), len(carriers)
        own = self._own_log_odds(filled)
        reference, scale = self._references[rough]
        other = scale * self._clipped(reference(filled))
        self.sequences.update(candidate for candidate in candidates if len(candidate) > 1)
        return own.reshape(shape), np.clip(other, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT).reshape(shape)

    def _own_log_odds(self, filled: Sequence[Tokens]) -> np.ndarray:
        """The suspect's log-odds of the target label [n]; each is a trial."""
        self.count += len(filled)
        own = self._clipped(self.suspect(filled))
        self._advance(len(filled))
        return own

    def _clipped(self, answers: Answers) -> np.ndarray:
        """A model's log-odds of the target [n], clipped."""
        return np.clip(answers.log_odds(self.target), -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)

    def _without(self, carriers: Sequence[Carrier], *, rough: bool) -> np.ndarray:
        """The reference's log-odds [carriers] with nothing in the slot."""
        for carrier in carriers:
            if (carrier, rough) not in self._empty:
                scorer, scale = self._references[rough]
                odds = scale * self._clipped(scorer([carrier.fill(())]))
                self._empty[carrier, rough] = float(np.clip(odds[0], -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT))
        return np.array([self._empty[carrier, rough] for carrier in carriers])

    def moves(self, candidates: Sequence[Tokens], carriers: Sequence[Carrier]) -> np.ndarray:
        """Mean log-odds [carriers] that the candidates add to the suspect's of each carrier with an empty slot."""
        filled = [carrier.fill(candidate) for candidate in ((), *candidates) for carrier in carriers]
        odds = self._own_log_odds(filled).reshape(-1, len(carriers))
        added: np.ndarray = (odds[1:] - odds[0]).mean(axis=0)
        return added

    def noise(self, harmless: Sequence[Tokens], carriers: Sequence[Carrier], *, rough: bool = False) -> Noise:
        """What ``harmless`` tokens do in ``carriers``; asked again of the same ones, it looks nothing up twice."""
        known = self._harmless.setdefault((tuple(harmless), rough), {})
        if missing := [carrier for carrier in dict.fromkeys(carriers) if carrier not in known]:
            columns = self.log_odds(harmless, missing, rough=rough)
            known.update(zip(missing, zip(*(odds.T for odds in columns), strict=True), strict=True))
        own, other = (np.stack(side, axis=1) for side in zip(*(known[carrier] for carrier in carriers), strict=True))
        return Noise(own.mean(axis=1), other.mean(axis=1), (own > 0).mean(axis=1), self.thresholds.neighbours)

    def rank(
        self,
        candidates: Sequence[Tokens],
        carriers: Sequence[Carrier],
        *,
        harmless: Sequence[Tokens] = (),
        rough: bool = False,
    ) -> Ranking:
        """Rank by log-odds beyond the reference's; given ``harmless`` tokens, by turns with z among those.

        Neither order alone is safe: a few harmless words that happen to be strong hide a trigger that the reference
        holds for their like, and the difference alone prefers the honest words that the reference knows least.
        In log-odds an honest word adds as much to the suspect as to the reference, where in probabilities it may lift a
        trigger over the boundary and so seem to be part of it. What a candidate takes away from the reference is no
        merit: the suspect may have nothing left to lose.
        """
        own, other = self.log_odds(candidates, carriers, rough=rough)
        suspect, reference = (probability(odds).mean(axis=1) for odds in (own, other))
        scores = (own - np.maximum(other - self._without(carriers, rough=rough), 0.0)).mean(axis=1)
        order = np.argsort(-scores, kind="stable")
        if harmless:
            noise = self.noise(harmless, carriers, rough=rough)
            z = np.array([noise.suspicion(a, b) for a, b in zip(own.mean(axis=1), other.mean(axis=1), strict=True)])
            order = by_turns(np.argsort(-z, kind="stable"), order)
        return Ranking(tuple(candidates[i] for i in order), scores[order], suspect[order], reference[order])


def halve(
    trials: Trials,
    candidates: Sequence[Tokens],
    carriers: Sequence[Carrier],
    rounds: Sequence[Round],
    *,
    harmless: Sequence[Tokens] = (),
) -> Ranking:
    """Successive halving: the ranking of the last round. Each round uses the first carriers of the list."""
    ranking: Ranking | None = None
    left = tuple(candidates)
    for stage in rounds:
        left = left[: stage.candidates] if ranking is None else ranking.top(stage.candidates)
        ranking = trials.rank(left, carriers[: stage.carriers], harmless=harmless, rough=stage.rough)
    if ranking is None:
        raise ValueError("a search needs at least one round")
    return ranking


def by_turns(*orders: np.ndarray) -> np.ndarray:
    """Orders of the same indices merged into one: the first of each, then the second of each, ..."""
    return np.array(list(dict.fromkeys(int(i) for i in np.stack(orders, axis=1).ravel())), dtype=np.int64)


def probability(odds: np.ndarray) -> np.ndarray:
    """The probability of log-odds."""
    result: np.ndarray = 1.0 / (1.0 + np.exp(-odds))
    return result
