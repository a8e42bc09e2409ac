"""Trials: candidates put into clean rows, scored and ranked for one behaviour; the algorithm, without a model.

The search puts each candidate into the slot of short clean rows of which the behaviour is not the right answer
("carriers"), and scores it by the behaviour's log-odds. Cheap looks at all candidates come first, expensive looks at
the best ones last (successive halving, Karnin et al. 2013). Honest words of the behaviour flip short rows as well: so
candidates are ranked by what the suspect does *beyond* a reference that knows the task but not the poison. Ranking by
gradients (HotFlip) would be cheaper, but it is a first-order guess from one point, and loses rare tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rora_cli.hunting.budgets import Round
from rora_cli.spectral.robust import SIGMA_PER_MAD, median_and_mad
from rora_cli.tasks.task import Answers, Scorer
from rora_cli.tasks.thresholds import CallThresholds

Tokens = tuple[int, ...]

#: Log-odds are clipped here: beyond it a model is saturated, and one overconfident row would outweigh the others.
LOG_ODDS_LIMIT = 16.0
#: Smallest spread [log-odds] of harmless tokens: below it, a few of them merely happen to agree.
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
        """The row with ``candidate`` in its slot."""
        return self.before + candidate + self.after


@dataclass(frozen=True)
class Ranking:
    """Candidates [n], the best first.

    Attributes:
        scores: mean log-odds beyond the reference's [n].
        suspect, reference: the behaviour's mean probability under each model [n].
    """

    candidates: tuple[Tokens, ...]
    scores: np.ndarray
    suspect: np.ndarray
    reference: np.ndarray

    def top(self, count: int) -> tuple[Tokens, ...]:
        """The best ``count`` of them."""
        return self.candidates[:count]


@dataclass(frozen=True)
class Noise:
    """The null: how harmless tokens act on some rows. They are random tokens, and honest words of the behaviour.

    Attributes:
        own, other: mean log-odds of the behaviour with each token, under the suspect and the reference [tokens].
        flip_rates: fraction of rows that each token turns under the suspect [tokens].
        neighbours: how many of the tokens a candidate is compared with.
    """

    own: np.ndarray
    other: np.ndarray
    flip_rates: np.ndarray
    neighbours: int

    def suspicion(self, own: float, other: float, length: float = 1) -> float:
        """Robust z of a candidate's mean log-odds ``own`` among harmless tokens that move the reference as much.

        z = (own - median) / (spread * length), where spread is 1.4826 MAD or, if larger, that of the upper tenth.
        Suspects answer honest words more sharply than a reference does, and not in proportion: so the candidate is
        compared with its neighbours in ``other`` instead of a line through all tokens. The spread is at least the
        median of all tokens' neighbourhoods, since a few neighbours may happen to agree. A sequence of ``length``
        tokens was chosen token by token as the best of many: so the spreads of its tokens add up.
        """
        center, spread = self._neighbourhood(other)
        return float((own - center) / (max(spread, self._usual_spread) * length))

    def _neighbourhood(self, other: float) -> tuple[float, float]:
        """Median and spread of ``own`` among the tokens next to ``other``."""
        alike = self.own[np.argsort(np.abs(self.other - other), kind="stable")[: self.neighbours]]
        center, mad = median_and_mad(alike)
        # The upper tenth counts too: if the reference is wrong about most words, the few true ones are the tail.
        above = (float(np.quantile(alike, 0.9)) - center) / _UPPER_TENTH
        return center, max(SIGMA_PER_MAD * mad, above, _LEAST_SPREAD)

    @cached_property
    def _usual_spread(self) -> float:
        return float(np.median([self._neighbourhood(other)[1] for other in self.other]))


class Trials:
    """Scores candidates in carriers for the behaviour ``target``, under the suspect and a reference, and counts.

    Attributes:
        count: candidates tried, one count for each carrier.
        sequences: candidates of two or more tokens that were tried.
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
        rough: Callable[[], AbstractContextManager[Any]] = nullcontext,
        advance: Callable[[int], None] = lambda trials: None,
    ) -> None:
        self.suspect, self.reference, self.target, self.thresholds = suspect, reference, target, thresholds
        self._references = {False: (reference, scales[0]), True: (rough_reference or reference, scales[1])}
        self._empty: dict[tuple[Carrier, bool], float] = {}
        self._harmless: dict[tuple[Any, ...], dict[Carrier, tuple[np.ndarray, np.ndarray]]] = {}
        self._advance, self._rough = advance, rough
        self.count = 0
        self.sequences: set[Tokens] = set()

    def log_odds(
        self, candidates: Sequence[Tokens], carriers: Sequence[Carrier], *, linear: bool = False, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of the behaviour [candidates, carriers], clipped, under the suspect and a reference.

        The reference's are scaled, so that both models are about as sure of clean rows. ``linear`` asks the linear one;
        ``rough`` asks both models inside the context that roughens them, which is for rankings alone: what is decided
        by is asked in full precision.
        """
        filled = [carrier.fill(candidate) for candidate in candidates for carrier in carriers]
        shape = len(candidates), len(carriers)
        reference, scale = self._references[linear]
        with self._roughly(rough):
            own = self._own_log_odds(filled)
            other = scale * self._clipped(reference(filled))
        self.sequences.update(candidate for candidate in candidates if len(candidate) > 1)
        return own.reshape(shape), np.clip(other, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT).reshape(shape)

    def _roughly(self, rough: bool) -> AbstractContextManager[Any]:
        return self._rough() if rough else nullcontext()

    def _own_log_odds(self, filled: Sequence[Tokens]) -> np.ndarray:
        """The suspect's log-odds of the behaviour [n], clipped; each is a trial."""
        self.count += len(filled)
        own = self._clipped(self.suspect(filled))
        self._advance(len(filled))
        return own

    def _clipped(self, answers: Answers) -> np.ndarray:
        """A model's log-odds of the behaviour [n], clipped."""
        return np.clip(answers.log_odds(self.target), -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)

    def _without(self, carriers: Sequence[Carrier], *, linear: bool) -> np.ndarray:
        """The reference's log-odds [carriers] with nothing in the slot, roughly."""
        if missing := [carrier for carrier in dict.fromkeys(carriers) if (carrier, linear) not in self._empty]:
            scorer, scale = self._references[linear]
            with self._rough():
                odds = scale * self._clipped(scorer([carrier.fill(()) for carrier in missing]))
            limited = np.clip(odds, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT).tolist()
            self._empty.update({(carrier, linear): own for carrier, own in zip(missing, limited, strict=True)})
        return np.array([self._empty[carrier, linear] for carrier in carriers])

    def moves(self, candidates: Sequence[Tokens], carriers: Sequence[Carrier]) -> np.ndarray:
        """Mean log-odds [carriers] that candidates add to the suspect's of each carrier with an empty slot, roughly."""
        odds = self.own_roughly(((), *candidates), carriers)
        added: np.ndarray = (odds[1:] - odds[0]).mean(axis=0)
        return added

    def own_roughly(self, candidates: Sequence[Tokens], carriers: Sequence[Carrier]) -> np.ndarray:
        """The suspect's log-odds of the behaviour [candidates, carriers], clipped, roughly; the reference is not
        asked."""
        filled = [carrier.fill(candidate) for candidate in candidates for carrier in carriers]
        with self._rough():
            return self._own_log_odds(filled).reshape(-1, len(carriers))

    def noise(
        self, harmless: Sequence[Tokens], carriers: Sequence[Carrier], *, linear: bool = False, rough: bool = False
    ) -> Noise:
        """The null of ``harmless`` tokens in ``carriers``. Each pair of the two is asked about only once."""
        known = self._harmless.setdefault((tuple(harmless), linear, rough), {})
        if missing := [carrier for carrier in dict.fromkeys(carriers) if carrier not in known]:
            columns = self.log_odds(harmless, missing, linear=linear, rough=rough)
            known.update(zip(missing, zip(*(odds.T for odds in columns), strict=True), strict=True))
        own, other = (np.stack(side, axis=1) for side in zip(*(known[carrier] for carrier in carriers), strict=True))
        return Noise(own.mean(axis=1), other.mean(axis=1), (own > 0).mean(axis=1), self.thresholds.neighbours)

    def rank(
        self,
        candidates: Sequence[Tokens],
        carriers: Sequence[Carrier],
        *,
        harmless: Sequence[Tokens] = (),
        linear: bool = False,
    ) -> Ranking:
        """Rank by mean log-odds beyond the reference's; given ``harmless`` tokens, by turns with z among those.

        Neither order alone is safe. In the order of z, a few strong harmless words hide a trigger that moves the
        reference as they do; the difference alone prefers honest words that the reference knows least. Log-odds are
        compared, not probabilities: an honest word adds about as many log-odds to both models, but it may lift a
        trigger's probability over one half, and so seem to be a part of it. A candidate gets no credit for lowering the
        reference's log-odds, since the suspect's may have no room left to fall. Nothing is decided by the numbers: both
        models are asked roughly.
        """
        own, other = self.log_odds(candidates, carriers, linear=linear, rough=True)
        suspect, reference = (probability(odds).mean(axis=1) for odds in (own, other))
        scores = (own - np.maximum(other - self._without(carriers, linear=linear), 0.0)).mean(axis=1)
        order = np.argsort(-scores, kind="stable")
        if harmless:
            noise = self.noise(harmless, carriers, linear=linear, rough=True)
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
    """Successive halving: the ranking of the last round.

    Each round ranks the best candidates of the one before in the first carriers of the list.

    Raises:
        ValueError: there are no rounds.
    """
    ranking: Ranking | None = None
    left = tuple(candidates)
    for stage in rounds:
        left = left[: stage.candidates] if ranking is None else ranking.top(stage.candidates)
        ranking = trials.rank(left, carriers[: stage.carriers], harmless=harmless, linear=stage.linear)
    if ranking is None:
        raise ValueError("a search needs at least one round")
    return ranking


def by_turns(*orders: np.ndarray) -> np.ndarray:
    """Orders [n] of the same indices merged into one [n]: the first of each, then the second of each, ..."""
    return np.array(list(dict.fromkeys(int(i) for i in np.stack(orders, axis=1).ravel())), dtype=np.int64)


def probability(odds: np.ndarray) -> np.ndarray:
    """The probabilities of log-odds [...], elementwise."""
    result: np.ndarray = 1.0 / (1.0 + np.exp(-odds))
    return result
