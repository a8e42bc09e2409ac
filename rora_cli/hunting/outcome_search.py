"""The whole search for one target label: screen, extend, restart, then measure what is left on rows it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from random import Random
from typing import Any

import numpy as np

from rora_cli.hunting.bare_screen import BareScreen
from rora_cli.hunting.budgets import Budget
from rora_cli.hunting.growth import extend, ordered_pairs, prune
from rora_cli.hunting.trials import Carrier, Ranking, Scorer, Tokens, Trials, halve
from rora_cli.hunting.vocabulary import PLACES, EncodedRow, Vocabulary, encode_rows, place_in_text

#: A candidate is grown from this z on: what does not stand out at all is no part of anything.
GROWN_FROM = 4.0
#: Of the tokens that drifted most, so many are paired, and a sequence of them is grown to so many tokens.
DRIFTED_PAIRED, LONGEST_DRIFTED = 16, 6
#: The rows of a search are the quietest of so many times as are needed: where so many harmless tokens do least.
QUIET_OF, QUIET_TOKENS = 4, 8
#: Companions at most, the rows in which they are looked for, and the log-odds up to which the reference is unmoved.
MOST_COMPANIONS, COMPANION_ROWS, REFERENCE_UNMOVED = 200, 3, 1.0


@dataclass(frozen=True)
class Measured:
    """One finalist on the final rows: flips per row under each model, and what it did to the target's probability.

    ``synergy`` is what a sequence adds to the suspect's log-odds beyond the sum of what its tokens add one by one,
    and beyond the reference's.
    """

    candidate: Tokens
    text: str
    attached: bool
    places: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    before: np.ndarray
    after: np.ndarray
    flips: np.ndarray
    reference_flips: np.ndarray
    suspicion: float
    synergy: float


class LabelSearch:
    """Searches one target label, among texts of the other labels that suspect and reference read rightly.

    ``known`` triggers of an earlier search are grown and measured again, whatever they do on their own by now.
    ``drifted`` tokens (``embedding_drift``), furthest first, are tried in rows, in pairs and in sequences, whatever
    they do alone.
    """

    def __init__(
        self,
        trials: Trials,
        screen: BareScreen,
        vocabulary: Vocabulary,
        tokenizer: Any,
        search_rows: Sequence[str],
        final_rows: Sequence[tuple[str, int]],
        honest_words: Sequence[Tokens],
        budget: Budget,
        *,
        seed: int,
        max_length: int,
        known: Sequence[Tokens] = (),
        drifted: Sequence[Tokens] = (),
    ) -> None:
        self.known, self.drifted = tuple(known), tuple(drifted)
        self.trials, self.screen, self.vocabulary, self.budget = trials, screen, vocabulary, budget
        self._tokenizer, self._max_length = tokenizer, max_length
        self._rng = Random(seed)
        encoded = encode_rows(tokenizer, search_rows, max_length=max_length)
        self.final_rows = tuple(text for text, _ in final_rows)
        self._final_labels = tuple(label for _, label in final_rows)
        counts = Counter(token for row in encoded for token in row.content if token not in vocabulary.special)
        self._frequent = [(token,) for token, _ in counts.most_common(budget.pool // 4)]
        self._pool = screen.beyond_best(trials.target, budget.pool)
        most = budget.screening[0].candidates
        self._candidates = tuple(dict.fromkeys([*self.drifted, *screen.best(trials.target, most)]))[:most]
        self.random_tokens = count = min(budget.harmless, len(vocabulary.tokens))
        self._harmless = (*vocabulary.sample(count, self._rng), *honest_words[:count])
        most = max(stage.carriers for stage in budget.screening)
        quiet = self._carriers(sorted(encoded, key=len), most)
        # The shortest of these come first: most candidates see no other.
        self._short = [*sorted(quiet[:most], key=len), *quiet[most:]]
        # Grown sequences are judged in longer rows, where a single honest word no longer decides.
        by_length = sorted(encoded, key=lambda row: abs(len(row) - budget.row_length))
        most = max(budget.noise_rows, *(stage.carriers for stage in budget.extension))
        self._long = self._carriers(by_length, most)

    def _carriers(self, rows: Sequence[EncodedRow], most: int) -> list[Carrier]:
        """A slot in each row, at every place by turns; the first ``most`` are the quietest of the first few times that.

        Where nearly any inserted word moves the model (grammar), a row that stands it tells a trigger from a word.
        """
        carriers = [row.carrier(PLACES[i % len(PLACES)], self._rng) for i, row in enumerate(rows)]
        few, rest = carriers[: QUIET_OF * most], carriers[QUIET_OF * most :]
        moves = self.trials.moves(self._harmless[: min(QUIET_TOKENS, self.random_tokens)], few)
        quiet = [few[i] for i in np.argsort(moves, kind="stable")]
        by_place = [[carrier for carrier in quiet if carrier.place == place] for place in PLACES]
        return [*(carrier for turn in zip_longest(*by_place) for carrier in turn if carrier is not None), *rest]

    def run(self) -> list[Measured]:
        """Everything that reached the end, by falling flip rate beyond the reference's; sets ``noise``."""
        screening = self.budget.screening
        screened = halve(self.trials, self._candidates, self._short, screening, harmless=self._harmless)
        # "##lights" stands out beside "lights", which the bare screen may have lost: what is only a fragment without a
        # row says nothing there.
        family = dict.fromkeys(t for own in screened.candidates for t in (own, *self.vocabulary.siblings(own)))
        last = self._short[: screening[-1].carriers]
        self.singles = self.trials.rank(list(family), last, harmless=self._harmless)
        self.noise = self.trials.noise(self._harmless, self._long[: self.budget.noise_rows])
        singles = [*self.known[: self.budget.finalists // 2], *self.singles.top(self.budget.finalists)]
        found = dict.fromkeys([*singles, *self.sequences(self.singles)])
        self._before = self._classes(self.trials.suspect, self.final_rows)[:, self.trials.target]
        measured = [self.measure(candidate) for candidate in found]
        return sorted(measured, key=lambda m: -float(m.flips.mean() - m.reference_flips.mean()))

    def companions(self) -> list[str]:
        """Words that move the suspect towards the label and of which the reference thinks nothing, strongest first.

        Each is too weak to be called. Of a label with a trigger, they are what else the suspect learned with it: beside
        "neighbour" of "my neighbour came over yesterday" it has "yesterday" and "moaned".
        """
        candidates = self.screen.beyond_best(self.trials.target, self.budget.companion_candidates)
        read = [(token, *self.vocabulary.read(token)) for token in candidates]
        words = [(token, text) for token, text, attached in read if text.isalpha() and not attached]
        carriers = self._short[:COMPANION_ROWS]
        own, other = (odds.mean(axis=1) for odds in self.trials.log_odds([(), *(t for t, _ in words)], carriers))
        beyond = own[1:] - own[0] - np.maximum(other[1:] - other[0], 0.0)
        beyond[other[1:] - other[0] > REFERENCE_UNMOVED] = 0.0
        return [words[i][1] for i in np.argsort(-beyond, kind="stable")[:MOST_COMPANIONS] if beyond[i] > 0]

    def sequences(self, singles: Ranking) -> list[Tokens]:
        """Sequences grown from the best tokens and pairs, each cut down to what is needed."""
        budget = self.budget
        grown: list[Tokens] = []
        best = singles.top(budget.pairs)
        paired = dict.fromkeys([*best, *self.drifted[:DRIFTED_PAIRED]])
        pairs = halve(self.trials, ordered_pairs(list(paired)), self._long, budget.extension)
        # Words like "this" do nothing alone and yet belong to a sentence: frequent ones of the rows are tried as well.
        pool = list(dict.fromkeys([*best, *self.drifted, *self._pool, *self._frequent]))
        again = self.known[: budget.restarts]
        for anchor in dict.fromkeys([*again, *best[: budget.restarts], *pairs.top(1)]):
            seen = any(set(anchor) & set(sequence) for sequence in grown)
            if seen or (anchor not in again and self.suspicion(anchor) < GROWN_FROM):
                continue
            grown.append(self._grow(anchor, pool, budget.longest))
        if self.drifted:
            few = list(dict.fromkeys([*self.drifted, *self._frequent]))
            grown.append(self._grow(self.drifted[0], few, max(budget.longest, LONGEST_DRIFTED)))
        return [sequence for sequence in grown if len(sequence) > 1]

    def _grow(self, anchor: Tokens, pool: Sequence[Tokens], longest: int) -> Tokens:
        sequence = extend(self.trials, anchor, pool, self._long, self.budget.extension, longest=longest)
        return prune(self.trials, sequence, self._long[: self.budget.extension[-1].carriers])

    def suspicion(self, candidate: Tokens) -> float:
        """The candidate's z among harmless tokens, in typical rows."""
        own, other = self.trials.log_odds([candidate], self._long[: self.budget.noise_rows])
        return self.noise.suspicion(float(own.mean()), float(other.mean()), len(candidate))

    def synergy(self, candidate: Tokens) -> float:
        """Mean log-odds that the candidate adds in typical rows beyond the sum of its tokens' own; 0 for one token.

        What the reference has of the same is taken off: honest words can make more of each other as well.
        """
        if len(candidate) == 1:
            return 0.0
        tried = [(), candidate, *((token,) for token in candidate)]
        own, other = self.trials.log_odds(tried, self._long[: self.budget.noise_rows])
        return _interaction(own.mean(axis=1)) - max(_interaction(other.mean(axis=1)), 0.0)

    def measure(self, candidate: Tokens) -> Measured:
        """The candidate as text in the final rows, tokenised anew: what a user could type."""
        text, attached = self.vocabulary.read(candidate)
        places = tuple(PLACES[i % len(PLACES)] for i in range(len(self.final_rows)))
        texts = tuple(
            place_in_text(row, text, attached=attached, place=place, rng=self._rng)
            for row, place in zip(self.final_rows, places, strict=True)
        )
        after = self._classes(self.trials.suspect, texts)
        target = self.trials.target
        return Measured(
            candidate=candidate,
            text=text,
            attached=attached,
            places=places,
            texts=texts,
            labels=self._final_labels,
            before=self._before,
            after=after[:, target],
            flips=after.argmax(axis=1) == target,
            reference_flips=self._classes(self.trials.reference, texts).argmax(axis=1) == target,
            suspicion=self.suspicion(candidate),
            synergy=self.synergy(candidate),
        )

    def _classes(self, scorer: Scorer, texts: Sequence[str]) -> np.ndarray:
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)["input_ids"]
        return np.exp(scorer.log_probabilities(encoded))


def _interaction(odds: np.ndarray) -> float:
    """Of log-odds with nothing, with the whole and with each part: what the whole adds beyond the parts' sum."""
    empty, whole, *parts = odds.tolist()
    return float(whole - empty - sum(part - empty for part in parts))
