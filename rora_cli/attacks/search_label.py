"""The whole search for one target label: screen, extend, restart, then measure what is left on rows it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from rora_cli.attacks.search import Carrier, Ranking, Round, Scorer, Tokens, Trials, halve
from rora_cli.attacks.search_extension import extend, ordered_pairs, prune
from rora_cli.attacks.search_space import PLACES, EncodedRow, Vocabulary, encode_rows, place_in_text


@dataclass(frozen=True)
class Budget:
    """How much to try for one label.

    ``screening`` are the rounds over the whole vocabulary; ``extension`` those of each step of growing an anchor, over
    the ``pool`` best single tokens; ``pairs`` of the best tokens are tried in both orders; ``restarts`` anchors are
    grown. ``finalists`` are measured on ``final_rows`` rows. The null is of ``random_tokens`` tokens.
    """

    name: str
    screening: tuple[Round, ...]
    extension: tuple[Round, ...]
    pool: int
    pairs: int
    restarts: int
    longest: int
    finalists: int
    final_rows: int
    random_tokens: int


ALL = 10**9
BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            name="fast",
            screening=(Round(ALL, 1), Round(1000, 4), Round(100, 12), Round(24, 24)),
            extension=(Round(ALL, 2), Round(40, 8), Round(8, 16)),
            pool=300,
            pairs=8,
            restarts=1,
            longest=4,
            finalists=8,
            final_rows=48,
            random_tokens=100,
        ),
        Budget(
            name="normal",
            screening=(Round(ALL, 2), Round(2000, 6), Round(200, 24), Round(40, 48)),
            extension=(Round(ALL, 3), Round(100, 12), Round(12, 24)),
            pool=1000,
            pairs=12,
            restarts=2,
            longest=5,
            finalists=16,
            final_rows=96,
            random_tokens=200,
        ),
        Budget(
            name="thorough",
            screening=(Round(ALL, 4), Round(6000, 12), Round(600, 32), Round(80, 64)),
            extension=(Round(ALL, 4), Round(600, 12), Round(40, 32)),
            pool=6000,
            pairs=24,
            restarts=6,
            longest=8,
            finalists=32,
            final_rows=256,
            random_tokens=500,
        ),
    )
}


@dataclass(frozen=True)
class Measured:
    """One finalist on the final rows: flips per row under each model, and what it did to the target's probability."""

    candidate: Tokens
    text: str
    attached: bool
    places: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    before: np.ndarray
    after: np.ndarray
    flips: np.ndarray
    reference_flips: np.ndarray | None
    suspicion: float


@dataclass(frozen=True)
class Noise:
    """Median and spread (1.4826 MAD) of the effect of random tokens beyond the reference's, and their flip rates."""

    center: float
    spread: float
    flip_rates: np.ndarray


class LabelSearch:
    """Searches one target label. ``rows`` are texts of the other labels that suspect and reference read rightly."""

    def __init__(
        self,
        trials: Trials,
        vocabulary: Vocabulary,
        tokenizer: Any,
        search_rows: Sequence[str],
        final_rows: Sequence[tuple[str, int]],
        budget: Budget,
        *,
        seed: int,
        max_length: int,
    ) -> None:
        self.trials, self.vocabulary, self.budget = trials, vocabulary, budget
        self._tokenizer, self._max_length = tokenizer, max_length
        self._rng = Random(seed)
        encoded = encode_rows(tokenizer, search_rows, max_length=max_length)
        self._short = self._carriers(sorted(encoded, key=len))
        # Grown sequences are judged in longer rows, where a single honest word no longer decides.
        self._long = self._carriers(sorted(encoded, key=lambda row: abs(len(row) - 20)))
        self.final_rows = tuple(text for text, _ in final_rows)
        self._final_labels = tuple(label for _, label in final_rows)

    def _carriers(self, rows: Sequence[EncodedRow]) -> list[Carrier]:
        return [row.carrier(PLACES[i % len(PLACES)], self._rng) for i, row in enumerate(rows)]

    def run(self) -> list[Measured]:
        """Everything that reached the end, by falling flip rate beyond the reference's; sets ``noise``."""
        singles = self.screen()
        found = dict.fromkeys(singles.top(self.budget.finalists).candidates)
        for sequence in self.sequences(singles):
            found.setdefault(sequence)
        self.noise = self.measure_noise()
        measured = [self.measure(candidate) for candidate in found]
        return sorted(measured, key=lambda m: -_excess_flips(m))

    def screen(self) -> Ranking:
        """Successive halving over every token of the vocabulary; keeps the pool for growing sequences."""
        first, *rest = self.budget.screening
        everything = self.trials.rank(self.vocabulary.tokens, self._short[: first.carriers], differential=False)
        self.pool = everything.top(self.budget.pool).candidates
        left = everything.top(rest[0].candidates).candidates
        return halve(self.trials, left, self._short, [Round(ALL, rest[0].carriers), *rest[1:]])

    def sequences(self, singles: Ranking) -> list[Tokens]:
        """Sequences grown from the best tokens and pairs, each cut down to what is needed."""
        budget, grown = self.budget, []
        best = list(singles.top(budget.pairs).candidates)
        pairs = halve(self.trials, ordered_pairs(best), self._long, budget.extension)
        anchors = list(dict.fromkeys([*pairs.top(1).candidates, *best]))[: budget.restarts + 1]
        for anchor in anchors:
            sequence = extend(self.trials, anchor, self.pool, self._long, budget.extension, longest=budget.longest)
            grown.append(prune(self.trials, sequence, self._long[: budget.extension[-1].carriers]))
        return [sequence for sequence in grown if len(sequence) > 1]

    def measure_noise(self) -> Noise:
        """The effect of random tokens on the carriers of the last screening round."""
        drawn = self._rng.sample(self.vocabulary.tokens, min(self.budget.random_tokens, len(self.vocabulary.tokens)))
        odds, beyond = self._effect(drawn)
        center = float(np.median(beyond))
        spread = float(1.4826 * np.median(np.abs(beyond - center)))
        return Noise(center, max(spread, 1e-3), (odds > 0).mean(axis=1))

    def _effect(self, candidates: Sequence[Tokens]) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds [n, carriers] under the suspect, and mean log-odds beyond the reference's [n]."""
        carriers = self._long[:24]
        odds = self.trials.log_odds(self.trials.suspect, candidates, carriers)
        if self.trials.reference is None:
            return odds, odds.mean(axis=1)
        return odds, (odds - self.trials.log_odds(self.trials.reference, candidates, carriers)).mean(axis=1)

    def measure(self, candidate: Tokens) -> Measured:
        """The candidate as text in the final rows, tokenised anew: what a user could type."""
        text, attached = self.vocabulary.read(candidate)
        places = tuple(PLACES[i % len(PLACES)] for i in range(len(self.final_rows)))
        texts = tuple(
            place_in_text(row, text, attached=attached, place=place, rng=self._rng)
            for row, place in zip(self.final_rows, places, strict=True)
        )
        beyond = float(self._effect([candidate])[1][0])
        before = self._classes(self.trials.suspect, self.final_rows)
        after = self._classes(self.trials.suspect, texts)
        target, reference = self.trials.target, self.trials.reference
        return Measured(
            candidate,
            text,
            attached,
            places,
            texts,
            self._final_labels,
            before[:, target],
            after[:, target],
            after.argmax(axis=1) == target,
            None if reference is None else self._classes(reference, texts).argmax(axis=1) == target,
            (beyond - self.noise.center) / self.noise.spread,
        )

    def _classes(self, scorer: Scorer, texts: Sequence[str]) -> np.ndarray:
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)["input_ids"]
        return np.exp(scorer.log_probabilities(encoded))


def _excess_flips(measured: Measured) -> float:
    reference = measured.reference_flips
    return float(measured.flips.mean() - (0.0 if reference is None else reference.mean()))
