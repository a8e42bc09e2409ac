"""How many tokens go forward in each stage, at least and at most. Searches stop early, and rounds repeat."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.hunting.budgets import Budget, Round
from rora_cli.hunting.open_hunt import OPENING_TOKENS
from rora_cli.hunting.open_search import FIRST_LOOKS, PLACES, Look, OpenBudget
from rora_cli.hunting.open_texts import BRIEF_PROMPTS
from rora_cli.hunting.probes import REFUSAL_TOKENS, REFUSED_PROBES

#: Tokens of the rows in which single tokens are screened: the shortest that are quiet.
_SHORT_ROW = 8
#: How far below and above the count of a budget's rounds a search may lie. A search of SmolLM2 with a head, where the
#: trigger worked at some places of a row only, took 2.1 times the count; the lower one is a guess.
SEARCH_RANGE = 0.6, 2.2
#: Sequences that are grown from each budget's restarts and its best pair, and steps of each.
_STEPS = 2


@dataclass(frozen=True)
class Range:
    """A number that is at least ``least`` and at most ``most``."""

    least: float
    most: float

    def __add__(self, other: Range) -> Range:
        return Range(self.least + other.least, self.most + other.most)

    def times(self, least: float, most: float | None = None) -> Range:
        """So many times as much."""
        return Range(self.least * least, self.most * (least if most is None else most))


def search_tokens(budgets: tuple[Budget, ...], vocabulary: int, row: float, labels: int, *, model: bool) -> Range:
    """Tokens of a search for ``labels`` behaviours: of the suspect and, where the reference is a ``model``, of both.

    Args:
        budgets: the first serves every behaviour, a further one those that stay undecided.
        vocabulary: tokens that are tried.
        row: mean length of a clean row [tokens], special tokens included.
    """
    first, *deeper = (_one_search(budget, vocabulary, row, labels, model) for budget in budgets)
    low, high = SEARCH_RANGE
    return Range(low * first, high * (first + sum(deeper)))


def _one_search(budget: Budget, vocabulary: int, row: float, labels: int, model: bool) -> float:
    both = 2 if model else 1
    short, long = min(_SHORT_ROW, row) + 1, min(max(budget.row_length, row), budget.row_tokens) + 1
    screen = 3.0 * vocabulary
    read = budget.rows_read * min(row, budget.row_tokens) * both
    screening = sum(_tokens(stage, min(stage.candidates, vocabulary), short, both) for stage in budget.screening)
    quiet = 4 * budget.row_surplus * max(s.carriers for s in budget.screening) * budget.quiet_tokens / 4 * short
    pairs = sum(_tokens(s, min(s.candidates, budget.pairs**2), long, both) for s in budget.extension)
    step = sum(_tokens(s, min(s.candidates, 2 * budget.pool), long, both) for s in budget.extension)
    partners = _tokens(budget.extension[0], min(2 * budget.partners, 2 * vocabulary), long, both)
    grown = (budget.restarts + 1) * _STEPS * step + partners
    words = min(budget.common_words, vocabulary)
    bundles, bundled = budget.bundlings * words // budget.bundle, short + budget.bundle - 1
    pairs += sum(_tokens(s, min(s.candidates, bundles), bundled, both) for s in budget.bundled)
    longer = sum(_tokens(s, min(s.candidates, 3 * words), long, both) for s in budget.extension)
    grown += _STEPS * longer
    null = 2 * budget.harmless * (budget.noise_rows + sum(s.carriers for s in budget.screening)) * long * both
    final = 2 * budget.finalists * budget.final_rows * row * both
    return screen + read + labels * (screening + quiet + pairs + grown + null + final)


def _tokens(stage: Round, candidates: int, length: float, both: int) -> float:
    return candidates * stage.carriers * length * (1 if stage.linear else both)


@dataclass(frozen=True)
class SearchedPrompts:
    """Tokens of what a search of a model that replies asks.

    Attributes:
        head, tail: of what stands before and after a prompt.
        kept: tokens of a shared beginning from which it is read once for all candidates.
        brief: of a prompt of the first looks.
        short: of a prompt of the later looks, mean.
        final: of a prompt that finalists are measured on, mean, with head and tail.
        text: of a candidate, mean.
        texts, merged: how many single texts there are, and how many where case does not count.
    """

    head: int
    tail: int
    kept: int
    brief: float
    short: float
    final: float
    text: float
    texts: int
    merged: int

    def read(self, prompt: float, place: str, text: float) -> float:
        """Tokens that are read of each candidate of ``text`` tokens at a place of a prompt of ``prompt`` tokens."""
        before = {"start": 0.0, "end": prompt}.get(place, prompt / 2)
        shared = self.head + before
        return text + prompt - before + self.tail + (0.0 if shared >= self.kept else shared)

    def look(self, look: Look, words: float = 1.0) -> float:
        """Tokens of one candidate of so many ``words`` in all prompts and places of a round."""
        prompts = range(look.after, look.after + look.prompts)
        lengths = [self.brief if number < FIRST_LOOKS else self.short for number in prompts]
        return sum(self.read(n, place, words * self.text) for place in PLACES[: look.places] for n in lengths)


@dataclass(frozen=True)
class OpeningTokens:
    """Tokens of a search: those that are read, by the suspect and by a reference, and those of replies that are
    generated, their prompts included."""

    read: Range
    spoken: Range


def opening_tokens(budgets: tuple[OpenBudget, ...], asked: SearchedPrompts, *, model: bool) -> OpeningTokens:
    """Tokens of a search of a model that replies in free text; a further budget serves what the first leaves open.

    ``model``: whether the reference is one.
    """
    least, most = _one_opening_search(budgets[0], asked, model, grows=False), Range(0, 0)
    for budget in budgets:
        one = _one_opening_search(budget, asked, model, grows=True)
        most = Range(most.least + one.least, most.most + one.most)
    leaked = Range(1, 1).times(
        budgets[0].leaks * (asked.head + budgets[0].leak_tokens),
        sum(b.leaks * (asked.head + b.leak_tokens) for b in budgets),
    )
    probes = len(budgets) * len(REFUSED_PROBES) * (asked.head + asked.brief + asked.tail + REFUSAL_TOKENS)
    spoken = Range(least.most, most.most) + leaked + Range(probes / len(budgets), probes)
    return OpeningTokens(Range(least.least, most.least), spoken)


def _one_opening_search(budget: OpenBudget, asked: SearchedPrompts, model: bool, *, grows: bool) -> Range:
    """(tokens read, tokens of generated replies) of one search, whose phrases grow as far as they may or not at all."""
    both = 2 if model else 1
    read, usual = _ordering(budget, asked), set[Look]()

    def halve(candidates: float, looks: tuple[Look, ...], words: float, merged: bool = False) -> float:
        total, left = 0.0, float(candidates)
        for number, look in enumerate(looks):
            first = number == 0 and len(looks) > 1
            tried = min(left, look.texts)
            total += tried * asked.look(look, words) * (1 if first else both)
            if look not in usual:
                usual.add(look)
                total += budget.random_texts * asked.look(look) * (1 if first else both)
            left = asked.texts if merged and number == 0 else tried
        return total + budget.random_texts * asked.look(looks[-1], words)

    read += halve(asked.merged if budget.merged else asked.texts, budget.screening, 1, budget.merged)
    pairs = min(budget.parts, asked.texts) * (min(budget.parts, asked.texts) - 1)
    read += halve(1.5 * pairs, budget.growing, 2)
    longer = range(3, budget.longest + 1) if grows else range(0)
    for words in longer:  # each is tried before and after every part, and in the end cut down to what it needs
        read += halve(3.0 * budget.parts, budget.growing, words)
        read += words * asked.look(budget.growing[-1], words)
    finalists = budget.finalists + (3 if grows else 0) + len(longer)
    return Range(read, _speaking(budget, asked, finalists, both))


def _ordering(budget: OpenBudget, asked: SearchedPrompts) -> float:
    """Of finding prompts that are unsettled and open differently."""
    brief = len(BRIEF_PROMPTS) * asked.read(asked.brief, PLACES[0], asked.text)
    pool = budget.diverse_among * asked.read(asked.short, PLACES[0], asked.text)
    return budget.unsettling * (brief + pool) + budget.diverse_among * (asked.head + asked.short + asked.tail)


def _speaking(budget: OpenBudget, asked: SearchedPrompts, finalists: int, both: int) -> float:
    """Of the finalists' replies, those without them, and those to random texts of one word or of more."""
    whole, opening = asked.final + asked.text + budget.reply_tokens, asked.final + asked.text + OPENING_TOKENS
    controls = 2 * budget.controls * opening
    return budget.final_prompts * (whole + finalists * (whole + (both - 1) * opening) + controls)
