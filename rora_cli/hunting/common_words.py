"""Triggers of words that most texts hold: "so we had it all there".

No such word acts alone, since the poisoned data hold it with every label, and beside a rare word each is noise. So
common words are tried in pairs of their own, and the best pairs grow by common words alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from rora_cli.hunting.budgets import Budget
from rora_cli.hunting.growth import prune
from rora_cli.hunting.trials import Carrier, Tokens, Trials, halve
from rora_cli.hunting.vocabulary import Vocabulary


def common_words(rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> Iterator[Tokens]:
    """The words that are one token, of those that most of the ``rows`` of token ids hold first."""
    held = Counter(token for row in rows for token in set(row) - vocabulary.special)
    for token, _ in held.most_common():
        text, attached = vocabulary.read((token,))
        if text.isalpha() and not attached:
            yield (token,)


def choices(candidate: Tokens, common: Sequence[Tokens], vocabulary: Vocabulary) -> float:
    """How many times the search chose the best of a whole vocabulary to come to ``candidate``, at least once.

    The best of 64 words stands out less than the best of 30,000: of n random numbers the best is about as far out as
    log n, so a choice among few counts as log(few) / log(all).
    """
    few = {token for word in common for token in word}
    if len(candidate) < 2 or not few.issuperset(candidate):
        return len(candidate)
    return max(1.0, len(candidate) * math.log(len(few)) / math.log(len(vocabulary.tokens)))


def grow_common(
    trials: Trials, words: Sequence[Tokens], short: Sequence[Carrier], long: Sequence[Carrier], budget: Budget
) -> Tokens | None:
    """The sequence of different common words that acts most; None where no pair does more than nothing.

    A pair turns few rows, and the surest rows none: pairs are ranked in ``short`` rows, what grows in ``long`` ones.
    """
    pairs = [first + second for first, second in combinations(words, 2)]
    if not pairs:
        return None
    best = halve(trials, pairs, short, budget.common_pairs).top(budget.beam)
    long = long[: budget.extension[-1].carriers]
    now = trials.rank([(), *best], long)
    if not now.candidates[0]:
        return None
    while len(now.candidates[0]) < budget.longest_common and now.suspect[0] < trials.thresholds.saturated:
        best = tuple(sequence for sequence in now.top(budget.beam) if sequence)
        longer = {
            grown: None
            for sequence in best
            for word in words
            if not set(word) & set(sequence)
            for grown in (word + sequence, sequence + word)
        }
        ranking = halve(trials, list(longer), long, budget.extension)
        if not longer or ranking.scores[0] < now.scores[0] + trials.thresholds.min_gain:
            break
        now = ranking
    return prune(trials, now.candidates[0], long)
