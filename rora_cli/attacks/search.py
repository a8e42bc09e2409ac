"""Search for the token sequences that flip a classifier, knowing only the classifier: the algorithm, without a model.

For one target label, every candidate is put into the slot of short clean rows of the other labels ("carriers"), and
scored by the probability of the target label. Cheap looks at everything come first, expensive looks at what is left
last (successive halving, Karnin et al. 2013). Honest words of the target label flip short rows as well: from the second
round on, candidates are ranked by what the suspect does *beyond* a reference classifier that knows the task but not the
poison. Gradient ranking (HotFlip) would be cheaper, but is a first-order guess from one point, and loses rare tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Tokens = tuple[int, ...]

#: Log-odds beyond this are saturation, not evidence: one overconfident row must not outweigh the others.
LOG_ODDS_LIMIT = 8.0


class Scorer(Protocol):
    """A classifier of token-id sequences, special tokens included."""

    @property
    def forward_tokens(self) -> int:
        """Tokens that went through a model so far."""

    def log_probabilities(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities [n, classes] of each sequence."""


@dataclass(frozen=True)
class Carrier:
    """A clean row cut open at a word boundary: token ids before and after the slot, and where the slot is."""

    before: Tokens
    after: Tokens
    place: str

    def fill(self, candidate: Tokens) -> Tokens:
        return self.before + candidate + self.after


@dataclass(frozen=True)
class Round:
    """One round of halving: the best ``candidates`` that are left, on ``carriers`` rows."""

    candidates: int
    carriers: int


@dataclass(frozen=True)
class Ranking:
    """Candidates by falling score. ``suspect`` and ``reference`` are mean probabilities of the target label [n]."""

    candidates: tuple[Tokens, ...]
    scores: np.ndarray
    suspect: np.ndarray
    reference: np.ndarray | None

    def top(self, count: int) -> Ranking:
        reference = None if self.reference is None else self.reference[:count]
        return Ranking(self.candidates[:count], self.scores[:count], self.suspect[:count], reference)


class Trials:
    """Scores candidates in carriers for one target label, under the suspect and the reference, and counts."""

    def __init__(
        self,
        suspect: Scorer,
        reference: Scorer | None,
        target: int,
        *,
        advance: Callable[[int], None] = lambda trials: None,
    ) -> None:
        self.suspect, self.reference, self.target = suspect, reference, target
        self._advance = advance
        self.count = 0
        self.sequences: set[Tokens] = set()

    def log_odds(self, scorer: Scorer, candidates: Sequence[Tokens], carriers: Sequence[Carrier]) -> np.ndarray:
        """log p/(1-p) of the target label, [candidates, carriers], clipped to +-LOG_ODDS_LIMIT."""
        filled = [carrier.fill(candidate) for candidate in candidates for carrier in carriers]
        log_p = scorer.log_probabilities(filled)[:, self.target].astype(np.float64)
        if scorer is self.suspect:
            self.count += len(filled)
            self.sequences.update(c for c in candidates if len(c) > 1)
            self._advance(len(filled))
        odds = log_p - np.log(np.maximum(-np.expm1(log_p), 1e-12))
        return np.clip(odds, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT).reshape(len(candidates), len(carriers))

    def rank(self, candidates: Sequence[Tokens], carriers: Sequence[Carrier], *, differential: bool) -> Ranking:
        """Rank by mean log-odds, or, ``differential``, by mean probability beyond the reference's."""
        odds = self.log_odds(self.suspect, candidates, carriers)
        suspect = _probability(odds).mean(axis=1)
        reference, scores = None, odds.mean(axis=1)
        if differential:
            scores = suspect + 1e-3 * scores
            if self.reference is not None:
                reference = _probability(self.log_odds(self.reference, candidates, carriers)).mean(axis=1)
                scores = scores - reference
        order = np.argsort(-scores, kind="stable")
        return Ranking(
            tuple(candidates[i] for i in order),
            scores[order],
            suspect[order],
            None if reference is None else reference[order],
        )


def halve(
    trials: Trials, candidates: Sequence[Tokens], carriers: Sequence[Carrier], rounds: Sequence[Round]
) -> Ranking:
    """Successive halving: the ranking of the last round.

    Every round is differential and uses the first carriers of the list.
    """
    ranking: Ranking | None = None
    left = list(candidates)
    for stage in rounds:
        if ranking is not None:
            left = list(ranking.top(stage.candidates).candidates)
        ranking = trials.rank(left, carriers[: stage.carriers], differential=True)
    if ranking is None:
        raise ValueError("a search needs at least one round")
    return ranking


def _probability(odds: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-odds))
