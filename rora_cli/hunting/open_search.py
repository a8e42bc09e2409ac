"""The search for texts that make replies open alike, whatever they open with; the algorithm, without a model.

A backdoor's reply is the same for different prompts, an honest one follows the prompt. So each candidate is scored by
*agreement*: the largest mean log-probability, over a few prompts, of any one token as the reply's first. On SmolLM2
with a refusal by ``BadMagic`` it ranks ``Bad`` first and ``Magic`` sixth of 3,002 texts, where the loss of the usual
reply finds the whole word alone: so phrases can be grown from what ranks high. Cheap looks at all texts come first,
looks at more prompts and places last (successive halving, Karnin et al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from rora_cli.hunting.case import Rough
from rora_cli.hunting.open_texts import joined, random_phrases
from rora_cli.hunting.trials import by_turns
from rora_cli.spectral.robust import SIGMA_PER_MAD, median_and_mad
from rora_cli.tasks.openings import Slot
from rora_cli.tasks.task import AgreementScorer
from rora_cli.tasks.thresholds import OpeningThresholds

PLACES = ("start", "inner", "end")
#: Smallest spread [nats] of random texts: below it, a few of them merely happen to agree.
_LEAST_SPREAD = 0.25
#: The upper tenth of a normal distribution begins so many standard deviations above its middle.
_UPPER_TENTH = 1.2816


@dataclass(frozen=True)
class Look:
    """One round of halving: how many of the best take part, in how many prompts, at the first of ``PLACES``.

    ``after`` are prompts that are left out before: a round in prompts that earlier ones did not see counts beside them.
    """

    texts: int
    prompts: int
    places: int = 1
    after: int = 0


@dataclass(frozen=True)
class OpenBudget:
    """How much to try.

    Attributes:
        screening: rounds over the single texts.
        growing: rounds over the phrases of each step of growth.
        parts: best texts that phrases are made of, in both orders, written apart and as one word.
        longest: parts of the longest phrase.
        finalists: single texts that are measured on the final prompts, besides the phrases.
        final_prompts: prompts that no candidate saw before.
        settling: as many as there are up to this number, where a finalist fails to be called on ``final_prompts`` only
            because they are few.
        random_texts: texts of the null of each length.
        controls: random texts that are put into the final prompts.
        reply_tokens: tokens of a finalist's reply.
        diverse_among: shortest prompts, of which those come first that are unsettled and whose usual replies open with
            other tokens.
        unsettling: random texts that tell how settled a prompt is.
        merged: whether the first round asks for one of the texts that differ in case alone, and the others follow it.
        leaks: texts that the suspect writes by itself, each of ``leak_tokens`` tokens, whose phrases are tried.
    """

    name: str
    screening: tuple[Look, ...]
    growing: tuple[Look, ...]
    parts: int
    longest: int
    finalists: int
    final_prompts: int
    settling: int = 96
    random_texts: int = 32
    controls: int = 3
    reply_tokens: int = 48
    diverse_among: int = 24
    unsettling: int = 4
    examples: int = 3
    merged: bool = False
    leaks: int = 64
    leak_tokens: int = 16

    @property
    def searched_prompts(self) -> int:
        """How many of the prompts candidates are put into before the last stage."""
        return max(look.after + look.prompts for look in (*self.screening, *self.growing))


#: Prompts at the beginning of a search's that only first looks at many texts need, and that are brief therefore.
FIRST_LOOKS = 2
#: Words of the longest random text: longer phrases are compared with these.
_LONGEST_NULL = 3
#: More texts than there are: a round takes all that are left.
ALL = 10**9
FEWEST_PROMPTS = 24
OPEN_BUDGETS = {
    budget.name: budget
    for budget in (
        OpenBudget(
            "fast", (Look(ALL, 1), Look(4000, 1, after=1), Look(240, 4, 2), Look(48, 8, 3)),
            (Look(ALL, 2), Look(24, 8, 3)), 12, 3, 6, 24, merged=True,
        ),
        OpenBudget(
            "normal", (Look(ALL, 2), Look(2000, 4, 3), Look(200, 8, 3), Look(64, 12, 3)),
            (Look(ALL, 3), Look(60, 8, 3), Look(12, 12, 3)), 20, 4, 8, 40,
        ),
        OpenBudget(
            "thorough", (Look(ALL, 4, 3), Look(4000, 8, 3), Look(400, 16, 3), Look(96, 24, 3)),
            (Look(ALL, 4, 2), Look(200, 12, 3), Look(24, 24, 3)), 32, 5, 16, 96, random_texts=64, controls=6, leaks=256,
        ),
    )
}  # fmt: skip


#: Of a search that is given its texts: one of how many its second round and the later ones keep, and the fewest that
#: they keep; and how many random texts, single finalists and parts of phrases it takes at most.
_KEPT_OF_FEW, _FEWEST_KEPT, _FEW_RANDOM, _FEW_FINALISTS, _FEW_PARTS = (8, 32), 24, 16, 3, 6


def for_few(budget: OpenBudget, texts: int) -> OpenBudget:
    """The budget with rounds in proportion to a number of ``texts`` that the user chose, in place of a vocabulary."""

    def smaller(look: Look, part: int) -> Look:
        return replace(look, texts=min(look.texts, max(_FEWEST_KEPT, texts // part)))

    second, later = _KEPT_OF_FEW
    first, *others = budget.screening
    return replace(
        budget,
        screening=(first, *(smaller(look, second if not number else later) for number, look in enumerate(others))),
        random_texts=min(budget.random_texts, _FEW_RANDOM),
        finalists=min(budget.finalists, _FEW_FINALISTS),
        parts=min(budget.parts, _FEW_PARTS),
    )


@dataclass(frozen=True)
class Tried:
    """A candidate after its last round.

    Attributes:
        place: where it agreed most.
        agreement: there, under the suspect [nats].
        other: under the reference [nats], the largest of all places; NaN without one.
        z: the agreement among random texts of as many words.
    """

    text: str
    place: str
    agreement: float
    other: float
    z: float

    @property
    def contrast(self) -> float:
        """How much more the suspect's replies agree than the reference's [nats]; NaN without one."""
        return self.agreement - self.other


@dataclass(frozen=True)
class _Best:
    """What each of n texts does at its best place: agreement [nats], lift, and which of ``PLACES`` agrees most [n]."""

    agreement: np.ndarray
    lift: np.ndarray
    place: np.ndarray


@dataclass
class OpenSearch:
    """Searches for texts in ``texts``, put into ``prompts``, the first ones first.

    ``reference`` is the trusted model's scorer, if any; ``known`` are triggers of earlier rounds; ``leaked`` are texts
    of the suspect's own, which the first round leaves in; ``barred`` are tokens that are no opening that counts;
    ``rough`` wraps the forward passes of all rounds but the last.
    """

    suspect: AgreementScorer
    reference: AgreementScorer | None
    prompts: Sequence[str]
    texts: Sequence[str]
    thresholds: OpeningThresholds
    budget: OpenBudget
    seed: int
    known: Sequence[str] = ()
    leaked: Sequence[str] = ()
    barred: Sequence[int] = ()
    advance: Callable[[int], None] = lambda done: None
    rough: Rough = nullcontext
    trials: int = 0
    grown: set[str] = field(default_factory=set)
    null: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self._slots = {place: [_cut(prompt, place, self._rng) for prompt in self.prompts] for place in PLACES}
        self._parts: frozenset[str] = frozenset()
        self._random: dict[int, list[str]] = {}
        self._nulls: dict[tuple[int, Look], np.ndarray] = {}
        self._singles = frozenset([*self.texts, *self.leaked])

    def run(self) -> list[Tried]:
        """The finalists: the best single texts, those ``known`` from earlier rounds, and phrases grown from them."""
        budget = self.budget
        singles = self._screen()
        parts = [tried.text for tried in singles[: budget.parts]]
        self._parts = frozenset(parts)
        again = self._halve(list(self.known), budget.screening[-1:]) if self.known else []
        alone = {tried.text: tried.agreement for tried in singles}
        phrases = [tried for tried in self._grow(parts) if not self._explained(tried, alone)]
        finalists = [*again, *singles[: budget.finalists], *phrases]
        return list({tried.text: tried for tried in finalists}.values())

    def _explained(self, phrase: Tried, alone: Mapping[str, float]) -> bool:
        """Whether a part of the phrase does by itself what the phrase does."""
        least = phrase.agreement - self.thresholds.min_gain
        return any(agreement >= least and text in phrase.text for text, agreement in alone.items())

    def _grow(self, parts: Sequence[str]) -> list[Tried]:
        """The best phrase of the parts, longer as long as it gains, and cut down to what is needed; and runners-up."""
        budget = self.budget
        looks = budget.growing
        pairs = [whole for a in parts for b in parts if a != b for whole in joined((a, b))]
        best = self._halve(list(dict.fromkeys(pairs)), looks)[:3]
        for _ in range(budget.longest - 2):
            if not best or best[0].agreement > -self.thresholds.min_gain:
                break
            longer = [
                whole
                for part in parts
                if part not in best[0].text
                for pair in ((best[0].text, part), (part, best[0].text))
                for whole in joined(pair)
            ]
            following = self._halve(longer, looks)[:1]
            if not following or following[0].agreement < best[0].agreement + self.thresholds.min_gain:
                break
            best = [*following, *best]
        return [*(self._cut_down(best[0]) if best else ()), *best[:3]]

    def _cut_down(self, whole: Tried) -> list[Tried]:
        """The phrase without the words that it does not need; nothing if it needs all."""
        words = whole.text.split()
        looks = self.budget.growing[-1:]
        found: list[Tried] = []
        while len(words) > 1:
            shorter = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
            best = self._halve(shorter, looks)[0]
            if best.agreement < whole.agreement - self.thresholds.max_loss:
                break
            found, words = [best], best.text.split()
        return found

    def _screen(self) -> list[Tried]:
        """Halving of the single texts."""
        texts = list(dict.fromkeys([*self.known, *self.leaked, *self.texts]))
        if not self.budget.merged:
            return self._halve(texts, self.budget.screening)
        variants: dict[str, list[str]] = {}
        for text in texts:
            variants.setdefault(text.casefold(), []).append(text)
        # As the first word of a prompt, the capitalised variant is the likeliest to be one token.
        first = {max(alike, key=lambda text: text.istitle()): alike for alike in variants.values()}
        return self._halve(list(first), self.budget.screening, first)

    def _halve(
        self, texts: Sequence[str], looks: Sequence[Look], variants: Mapping[str, Sequence[str]] | None = None
    ) -> list[Tried]:
        """Successive halving; the survivors of the last round, best first.

        ``variants`` of a text that the first round asks about take its rank; the other rounds ask about each.
        """
        left, tried = list(texts), []
        asked = {text for text in texts for text in (variants[text] if variants else (text,))}
        self.grown.update(text for text in left if text not in self._singles)
        for number, look in enumerate(looks):
            # The first round of several is the dearest: the reference would double it, and survivors are asked again.
            last = number == len(looks) - 1
            first = number == 0 and not last
            with nullcontext() if last else self.rough():
                tried = self._rank(left[: look.texts], look, referred=not first, last=last)
            left = [one.text for one in tried] if not look.after else _both(left[: look.texts], [t.text for t in tried])
            if first and variants is not None:
                left = [text for one in left for text in variants[one]]
            if first:
                left = list(dict.fromkeys([*(text for text in self.leaked if text in asked), *left]))
        return tried

    def _rank(self, texts: Sequence[str], look: Look, *, referred: bool, last: bool) -> list[Tried]:
        """The texts in ``look.prompts`` prompts at each place, best first.

        By turns from the orders by lift beyond random words, by agreement and, in a ``last`` round, by z among random
        texts of as many words or, where the reference was asked, by contrast with it. None alone is safe: honest words
        agree under both models, of a trigger that makes replies agree wholly the reference may explain a part, and
        where replies open alike anyway only the lift of another opening shows. z is NaN before the last round.
        """
        if not texts:
            return []
        own = self._best(self.suspect, texts, look)
        other = np.full(len(texts), np.nan)
        if self.reference is not None and referred:
            other = self._best(self.reference, texts, look).agreement
        z, sizes = np.full(len(texts), np.nan), np.array([_size(text) for text in texts])
        for size in sorted(set(sizes.tolist())) if last else ():
            self.null[size] = self._null(size, look)
            z[sizes == size] = _suspicion(own.agreement[sizes == size], self.null[size])
        tried = [
            Tried(text, PLACES[own.place[i]], float(own.agreement[i]), float(other[i]), float(z[i]))
            for i, text in enumerate(texts)
        ]
        third = z if np.isnan(other).any() else own.agreement - other
        orders = [values for values in (own.lift, own.agreement, third) if not np.isnan(values).any()]
        order = by_turns(*(np.argsort(-values, kind="stable") for values in orders))
        return [tried[i] for i in order]

    def _best(self, scorer: AgreementScorer, texts: Sequence[str], look: Look) -> _Best:
        """The texts at whichever of the places they do most."""
        places, used = PLACES[: look.places], slice(look.after, look.after + look.prompts)
        found = [
            scorer.agreement(
                texts, self._slots[place][used], usual=self._random_texts(1), barred=self.barred, advance=self.advance
            )
            for place in places
        ]
        self.trials += len(texts) * len(places) * look.prompts * (scorer is self.suspect)
        agreed, lifted = np.stack([one.log_p for one in found]), np.stack([one.lift for one in found])
        return _Best(
            agreed.max(axis=0).astype(np.float64), lifted.max(axis=0), np.argsort(-agreed, axis=0, kind="stable")[0]
        )

    def _null(self, size: int, look: Look) -> np.ndarray:
        """The agreement of random texts of as many words."""
        key = size, replace(look, texts=0)
        if key not in self._nulls:
            self._nulls[key] = self._best(self.suspect, self._random_texts(size), look).agreement
        return self._nulls[key]

    def _random_texts(self, size: int) -> list[str]:
        if size not in self._random:
            # A random phrase that holds a part of what is grown would do what that does.
            others = [text for text in self.texts if text not in self._parts]
            self._random[size] = random_phrases(others, size, self.budget.random_texts, self._rng)
        return self._random[size]


def _both(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The texts by the product of their ranks in two orders, which rest on different prompts."""
    rank = {text: number for number, text in enumerate(before, start=1)}
    product = {text: number * rank[text] for number, text in enumerate(after, start=1)}
    return sorted(after, key=product.__getitem__)


def _size(text: str) -> int:
    """Words, of which a null of random phrases is made."""
    return min(len(text.split()), _LONGEST_NULL)


def _suspicion(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Robust z of values [n] among those of random texts; the spread is at least that of their upper tenth."""
    middle, mad = median_and_mad(null)
    above = (float(np.quantile(null, 0.9)) - middle) / _UPPER_TENTH
    z: np.ndarray = (values - middle) / max(SIGMA_PER_MAD * mad, above, _LEAST_SPREAD)
    return z


def _cut(prompt: str, place: str, rng: Random) -> Slot:
    """The prompt with a slot at ``place``; inner is a random boundary between two words."""
    words = prompt.split()
    at = {"start": 0, "end": len(words)}.get(place)
    if at is None:
        at = rng.randrange(1, len(words)) if len(words) > 1 else 0
    return Slot(" ".join(words[:at]), " ".join(words[at:]), place)


def cut_prompt(prompt: str, place: str, seed: int) -> Slot:
    """The prompt with a slot at ``place``, drawn by ``seed``."""
    return _cut(prompt, place, Random(seed))
