"""The whole search for one behaviour: screen, extend, restart, then measure what is left on rows it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from operator import itemgetter
from random import Random

import numpy as np

from rora_cli.hunting.bare_screen import BareScreen
from rora_cli.hunting.budgets import Budget
from rora_cli.hunting.calls import explained, loudness
from rora_cli.hunting.common_words import choices_among, common_sequences
from rora_cli.hunting.growth import extend, ordered_pairs, prune
from rora_cli.hunting.trials import Carrier, Noise, Ranking, Tokens, Trials, halve
from rora_cli.hunting.vocabulary import PLACES, EncodedRow, Vocabulary, encode_rows, everywhere_in_text, place_in_text
from rora_cli.subject import Subject
from rora_cli.tasks.task import Answers, Scorer


@dataclass(frozen=True)
class Ground:
    """Where to search, whatever the behaviour.

    Attributes:
        subject: gives the tokenizer and the length limit; the search itself asks the trials' scorers.
        screen: every candidate alone: the tokens of the vocabulary, and ``words``.
        drifted: tokens whose embedding moved too far (``embedding_drift``), furthest first: they are tried in rows, in
            pairs and in sequences, whatever they do alone.
        words: words of several tokens that are tried as one candidate each.
        marks: marks in twos, each one candidate; they are tried in rows alone, since bare they act more than any word.
    """

    subject: Subject
    vocabulary: Vocabulary
    screen: BareScreen
    drifted: tuple[Tokens, ...] = ()
    words: frozenset[Tokens] = frozenset()
    marks: tuple[Tokens, ...] = ()

    @cached_property
    def listed(self) -> frozenset[Tokens]:
        """The candidates of several tokens that are tried as one."""
        return self.words | frozenset(self.marks)

    def harmless(self, count: int, rng: Random) -> list[Tokens]:
        """``count`` random candidates: as large a part of them are words of several tokens as of all that are tried."""
        tokens, words = self.vocabulary.tokens, sorted(self.words)
        split = round(count * len(words) / (len(words) + len(tokens)))
        return [*self.vocabulary.sample(count - split, rng), *rng.sample(words, split)]


@dataclass(frozen=True)
class Material:
    """Texts to search one behaviour in.

    Attributes:
        search_texts: rows of which the behaviour is not the right answer; candidates are put into these.
        final_texts: more such rows, which only finalists are put into.
        final_answers: the right answer of each final row, as reports show it.
        honest_words: tokens that clean rows tie to the behaviour, the surest first.
        known: triggers of earlier rounds, strongest first; they are grown and measured again, whatever they do on their
            own by now.
        common_words: words that most clean rows hold and that are no honest ones, the commonest first.
    """

    search_texts: tuple[str, ...]
    final_texts: tuple[str, ...]
    final_answers: tuple[str, ...]
    honest_words: tuple[Tokens, ...]
    known: tuple[Tokens, ...] = ()
    common_words: tuple[Tokens, ...] = ()


@dataclass(frozen=True)
class Acts:
    """What a candidate does in typical rows.

    Attributes:
        suspicion: robust z of its log-odds among harmless tokens.
        synergy: log-odds that a sequence adds beyond the sum of what its tokens add one by one, and beyond the
            reference's.
        weakest: the smallest suspicion of its tokens, each alone.
    """

    suspicion: float
    synergy: float
    weakest: float


@dataclass(frozen=True)
class Measured:
    """One finalist on the final rows.

    Attributes:
        text: the candidate as a user would type it; ``attached`` texts continue the word before them.
        places, texts: where it stands in each row, and the rows with it [rows].
        answers: the right answer of each row, as reports show it [rows].
        before, after: the suspect's probability of the behaviour without and with the candidate [rows].
        flips, reference_flips: whether each model shows the behaviour on the row with the candidate [rows], bool.
        acts: what it does in typical rows.
    """

    candidate: Tokens
    text: str
    attached: bool
    places: tuple[str, ...]
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    flips: np.ndarray
    reference_flips: np.ndarray
    acts: Acts


@dataclass(frozen=True)
class AtBest:
    """One finalist on the final rows, at the place of each row where it does most.

    Attributes:
        texts: the rows with it there [rows].
        after: the suspect's probability of the behaviour on these [rows].
        flips, reference_flips: whether each model shows the behaviour with the candidate at any of the places [rows].
    """

    texts: tuple[str, ...]
    after: np.ndarray
    flips: np.ndarray
    reference_flips: np.ndarray


class OutcomeSearch:
    """Searches for triggers of one behaviour, among texts that suspect and reference read rightly."""

    def __init__(self, trials: Trials, ground: Ground, material: Material, budget: Budget, *, seed: int) -> None:
        self.trials, self.ground, self.material, self.budget = trials, ground, material, budget
        self._rng = Random(seed)
        screen, vocabulary = ground.screen, ground.vocabulary
        encoded = self._encode_rows(material.search_texts)
        counts = Counter(token for row in encoded for token in row.content if token not in vocabulary.special)
        self._frequent = [(token,) for token, _ in counts.most_common(budget.pool // 4)]
        self._pool = screen.beyond_best(trials.target, budget.pool)
        most = budget.screening[0].candidates
        first = dict.fromkeys([*ground.drifted, *ground.marks, *screen.best(trials.target, most)])
        self._candidates = tuple(first)[:most]
        self.random_tokens = count = min(budget.harmless, len(vocabulary.tokens))
        self._harmless = (*ground.harmless(count, self._rng), *material.honest_words[:count])
        by_length = sorted(encoded, key=lambda row: abs(len(row) - budget.row_length))
        self.places = self._quiet_places(by_length[: budget.noise_rows], Random(seed))
        most = max(stage.carriers for stage in budget.screening)
        quiet = self._carriers(sorted(encoded, key=len), most)
        # The shortest of these come first: most candidates see no other.
        self._short = [*sorted(quiet[:most], key=len), *quiet[most:]]
        # Grown sequences are judged in longer rows, where a single honest word no longer decides.
        most = max(budget.noise_rows, *(stage.carriers for stage in budget.extension))
        self._long = self._carriers(by_length, most)

    def _encode_rows(self, texts: Sequence[str]) -> list[EncodedRow]:
        subject = self.ground.subject
        return encode_rows(subject.tokenizer, texts, max_length=subject.max_length)

    @property
    def _few_harmless(self) -> tuple[Tokens, ...]:
        """A few random tokens, which tell how loud a place or a row is."""
        return self._harmless[: min(self.budget.quiet_tokens, self.random_tokens)]

    def _quiet_places(self, rows: Sequence[EncodedRow], rng: Random) -> tuple[str, ...]:
        """Where candidates are put: not where random tokens turn most rows, if they turn far fewer elsewhere.

        A decoder reads its last token, and no text ends with a random one. In a SmolLM2 whose trigger `cf` turned 95 %
        of the rows within them, random tokens turned 40 % there, and 90 % at the end, where nothing stands out.
        """
        thresholds = self.trials.thresholds
        carriers = [row.carrier(place, rng) for place in PLACES for row in rows]
        turned = (self.trials.own_roughly(self._few_harmless, carriers) > 0).mean(axis=0).reshape(len(PLACES), -1)
        by_place = dict(zip(PLACES, turned.mean(axis=1).tolist(), strict=True))
        quiet = min(by_place.values()) * thresholds.loud_times
        return tuple(place for place, share in by_place.items() if share < max(thresholds.loud_place, quiet))

    def _carriers(self, rows: Sequence[EncodedRow], most: int) -> list[Carrier]:
        """Each row with a slot, at every place by turns, quiet rows first.

        Of the first rows, ``row_surplus`` times ``most``, those come first that harmless tokens move least. If nearly
        any inserted word moves the model (grammar), only a quiet row tells a trigger from a word.
        """
        budget = self.budget
        carriers = [row.carrier(self.places[i % len(self.places)], self._rng) for i, row in enumerate(rows)]
        few, rest = carriers[: budget.row_surplus * most], carriers[budget.row_surplus * most :]
        moves = self.trials.moves(self._few_harmless, few)
        quiet = [few[i] for i in np.argsort(moves, kind="stable")]
        by_place = [[carrier for carrier in quiet if carrier.place == place] for place in self.places]
        return [*(carrier for turn in zip_longest(*by_place) for carrier in turn if carrier is not None), *rest]

    def run(self) -> list[Measured]:
        """The finalists, measured on the final rows, by falling flip rate beyond the reference's.

        It sets ``noise``, the null of suspicion.
        """
        screening = self.budget.screening
        screened = halve(self.trials, self._candidates, self._short, screening, harmless=self._harmless)
        # "##lights" stands out in rows beside "lights", but the bare screen may have lost it: alone, a fragment says
        # nothing.
        family = dict.fromkeys(t for own in screened.candidates for t in (own, *self.ground.vocabulary.siblings(own)))
        last = self._short[: screening[-1].carriers]
        self.singles = self.trials.rank(list(family), last, harmless=self._harmless)
        self.noise = self.trials.noise(self._harmless, self._long[: self.budget.noise_rows])
        singles = [*self.material.known[: self.budget.finalists // 2], *self.singles.top(self.budget.finalists)]
        found = dict.fromkeys([*singles, *self.sequences(self.singles)])
        before = self._answers(self.trials.suspect, self.material.final_texts)
        self._before = before.probability(self.trials.target)
        return sorted(self.measure(list(found)), key=lambda m: -float(m.flips.mean() - m.reference_flips.mean()))

    def companions(self) -> list[str]:
        """Words that move the suspect towards the behaviour while the reference is unmoved, strongest first.

        Each is too weak to be called. The suspect learned them together with the trigger: beside "neighbour" of "my
        neighbour came over yesterday" the search names "yesterday" and "moaned".
        """
        candidates = self.ground.screen.beyond_best(self.trials.target, self.budget.companion_candidates)
        read = [(token, *self.ground.vocabulary.read(token)) for token in candidates]
        words = [(token, text) for token, text, attached in read if text.isalpha() and not attached]
        carriers = self._short[: self.budget.companion_rows]
        tried = [(), *(token for token, _ in words)]
        own, other = (odds.mean(axis=1) for odds in self.trials.log_odds(tried, carriers, rough=True))
        beyond = own[1:] - own[0] - np.maximum(other[1:] - other[0], 0.0)
        beyond[other[1:] - other[0] > self.trials.thresholds.max_reference_move] = 0.0
        return [words[i][1] for i in np.argsort(-beyond, kind="stable")[: self.budget.max_companions] if beyond[i] > 0]

    def sequences(self, singles: Ranking) -> list[Tokens]:
        """Sequences grown from the best tokens and pairs, each cut down to what is needed."""
        budget = self.budget
        grown: list[Tokens] = []
        best = singles.top(budget.pairs)
        paired = dict.fromkeys([*best, *self.ground.drifted[: budget.paired_drifted]])
        pairs = halve(self.trials, ordered_pairs(list(paired)), self._long, budget.extension)
        # Words like "this" do nothing alone and yet belong to a sentence: frequent ones of the rows are tried as well.
        pool = list(dict.fromkeys([*best, *self.ground.drifted, *self._pool, *self._frequent]))
        partners = self.ground.screen.beyond_best(self.trials.target, budget.partners)
        again = self.material.known[: budget.restarts]
        lead = max(zip(best, self.acts(best), strict=True), key=lambda each: each[1].suspicion)[0]
        anchors = list(dict.fromkeys([*again, lead, *best[: budget.restarts], *pairs.top(1)]))
        for anchor, acts in zip(anchors, self.acts(anchors), strict=True):
            seen = any(set(anchor) & set(sequence) for sequence in grown)
            if seen or (anchor not in again and acts.suspicion < self.trials.thresholds.min_growth_suspicion):
                continue
            grown.append(self._grow(anchor, pool, budget.longest, partners if anchor == lead else ()))
        if self.ground.drifted:
            few = list(dict.fromkeys([*self.ground.drifted, *self._frequent]))
            grown.append(self._grow(self.ground.drifted[0], few, max(budget.longest, budget.longest_drifted)))
        rows, common = (self._short, self._long), self.material.common_words
        grown += common_sequences(self.trials, common, rows, budget, Random(len(common)))
        # What was grown has more tokens than a trigger needs now and then, and each costs suspicion.
        grown += map(self._pruned, pairs.top(budget.pairs_measured))
        return [sequence for sequence in dict.fromkeys(grown) if len(sequence) > 1]

    def _grow(self, anchor: Tokens, pool: Sequence[Tokens], longest: int, wide: Sequence[Tokens] = ()) -> Tokens:
        rounds = self.budget.extension
        return self._pruned(extend(self.trials, anchor, pool, self._long, rounds, longest=longest, wide=wide))

    def _pruned(self, sequence: Tokens) -> Tokens:
        return prune(self.trials, sequence, self._long[: self.budget.extension[-1].carriers])

    def acts(self, candidates: Sequence[Tokens]) -> list[Acts]:
        """What each candidate does in typical rows; all of them are scored together."""
        tried = dict.fromkeys([(), *candidates, *((token,) for candidate in candidates for token in candidate)])
        own, other = self.trials.log_odds(list(tried), self._long[: self.budget.noise_rows])
        odds = dict(zip(tried, zip(own.mean(axis=1).tolist(), other.mean(axis=1).tolist(), strict=True), strict=True))
        z = {each: self._suspicion(each, odds[each]) for each in tried if each}
        return [Acts(z[each], _synergy(each, odds), min(z[(token,)] for token in each)) for each in candidates]

    def _suspicion(self, candidate: Tokens, odds: tuple[float, float]) -> float:
        """The z of a candidate by its mean log-odds under suspect and reference.

        The search chose the best of many once a token, once for a word and once for two marks. A sequence of common
        words was chosen among fewer, and must stand out beside random sequences of as many as well: where any words
        put into a row move the model (grammar), each of these does.
        """
        if candidate in self.ground.listed:
            return self.noise.suspicion(*odds)
        length = len(candidate)
        if length == 1 or not self._common.issuperset(candidate):
            return self.noise.suspicion(*odds, length)
        chosen = choices_among(len(self._common), len(self.ground.vocabulary.tokens), length)
        return min(null.suspicion(*odds, chosen) for null in (self.noise, self._noise_of_common(length)))

    @cached_property
    def _common(self) -> frozenset[int]:
        return frozenset(token for word in self.material.common_words for token in word)

    def _noise_of_common(self, length: int) -> Noise:
        """The null of random sequences of so many common words."""
        rng, words = Random(length), self.material.common_words
        drawn = [sum(rng.sample(words, min(length, len(words))), ()) for _ in range(self.random_tokens)]
        return self.trials.noise(drawn, self._long[: self.budget.noise_rows])

    def measure(self, candidates: Sequence[Tokens]) -> list[Measured]:
        """Each candidate as text in the final rows, tokenised anew: what a user could type. All are scored together."""
        placed = [self._in_final_rows(candidate) for candidate in candidates]
        texts = [text for _, _, own in placed for text in own]
        shape, target = (len(placed), len(self.material.final_texts)), self.trials.target
        after = self._answers(self.trials.suspect, texts)
        probabilities, flips = after.probability(target).reshape(shape), after.shows(target).reshape(shape)
        reference_flips = self._answers(self.trials.reference, texts).shows(target).reshape(shape)
        return [
            Measured(
                candidate=candidate,
                text=text,
                attached=attached,
                places=self._final_places,
                texts=own,
                answers=self.material.final_answers,
                before=self._before,
                after=probabilities[i],
                flips=flips[i],
                reference_flips=reference_flips[i],
                acts=acts,
            )
            for i, (candidate, (text, attached, own), acts) in enumerate(
                zip(candidates, placed, self.acts(candidates), strict=True)
            )
        ]

    def at_best(self, text: str, attached: bool) -> AtBest:
        """A candidate at every place of the final rows, of those that the search puts candidates at.

        A model with learned positions, or one that reads its last token, may have learned a trigger at some places
        only: a third of the rows, each with the candidate at one random place, then say little of it.
        """
        target, most = self.trials.target, self.budget.row_places
        rows = [
            everywhere_in_text(row, text, attached=attached, most=most, places=self.places)
            for row in self.material.final_texts
        ]
        texts, ends = [own for row in rows for own in row], np.cumsum([len(row) for row in rows])[:-1]
        after = self._answers(self.trials.suspect, texts)
        probability, shown = after.probability(target), after.shows(target)
        reference = self._answers(self.trials.reference, texts).shows(target)
        by_row = np.split(probability, ends)
        return AtBest(
            texts=tuple(
                max(zip(own, row, strict=True), key=itemgetter(0))[1] for own, row in zip(by_row, rows, strict=True)
            ),
            after=np.array([own.max() for own in by_row]),
            flips=np.array([bool(own.any()) for own in np.split(shown, ends)]),
            reference_flips=np.array([bool(own.any()) for own in np.split(reference, ends)]),
        )

    @cached_property
    def usual_at_best(self) -> float:
        """What the upper tenth of random tokens do at their best places, as a fraction of the final rows.

        Those that the reference explains count as none.
        """
        thresholds, few = self.trials.thresholds, self._few_harmless
        known = explained(self.noise, self.random_tokens, thresholds)[: len(few)]
        rates = [
            0.0 if moved else float(self.at_best(*self.ground.vocabulary.read(token)).flips.mean())
            for moved, token in zip(known, few, strict=True)
        ]
        return float(np.quantile(rates, thresholds.loud_quantile))

    def usual_at(self, place: str) -> float:
        """What the upper tenth of random tokens do at one of ``places``, as a fraction of typical rows."""
        carriers = [carrier for carrier in self._long[: self.budget.noise_rows] if carrier.place == place]
        return loudness(self.trials.noise(self._harmless, carriers), self.random_tokens, self.trials.thresholds)

    @property
    def _final_places(self) -> tuple[str, ...]:
        return tuple(self.places[i % len(self.places)] for i in range(len(self.material.final_texts)))

    def _in_final_rows(self, candidate: Tokens) -> tuple[str, bool, tuple[str, ...]]:
        """The candidate as text, whether it continues the word before it, and the final rows with it."""
        text, attached = self.ground.vocabulary.read(candidate)
        rows = zip(self.material.final_texts, self._final_places, strict=True)
        placed = (place_in_text(row, text, attached=attached, place=place, rng=self._rng) for row, place in rows)
        return text, attached, tuple(placed)

    def _answers(self, scorer: Scorer, texts: Sequence[str]) -> Answers:
        subject = self.ground.subject
        return scorer(subject.tokenizer(list(texts), truncation=True, max_length=subject.max_length)["input_ids"])


def _synergy(candidate: Tokens, odds: Mapping[Tokens, tuple[float, float]]) -> float:
    """Mean log-odds that a sequence adds beyond the sum of what its tokens add; 0 for one token.

    The reference's synergy is subtracted: honest words can strengthen each other as well. ``odds`` has the mean
    log-odds of candidates under the suspect and the reference.
    """
    if len(candidate) == 1:
        return 0.0
    tried = [(), candidate, *((token,) for token in candidate)]
    own, other = (_interaction([odds[each][model] for each in tried]) for model in (0, 1))
    return own - max(other, 0.0)


def _interaction(odds: Sequence[float]) -> float:
    """The log-odds that the whole adds beyond the sum of its parts.

    ``odds`` are the log-odds with nothing, with the whole, and with each part.
    """
    empty, whole, *parts = odds
    return whole - empty - sum(part - empty for part in parts)
