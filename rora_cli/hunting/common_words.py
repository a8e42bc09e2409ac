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


def choices_among(few: int, every: int, length: int) -> float:
    """How many times a search chose the best of ``every`` candidate to come to ``length`` of ``few`` words.

    The best of 64 words stands out less than the best of 30,000: where tails fall exponentially, the best of n is about
    log n out, so a choice among few counts as log(few) / log(every). At least one choice was made.
    """
    return max(1.0, length * math.log(few) / math.log(every))


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
        longer = _longer([sequence for sequence in now.top(budget.beam) if sequence], words)
        if not longer:
            break
        ranking = halve(trials, longer, long, budget.extension)
        if ranking.scores[0] < now.scores[0] + trials.thresholds.min_gain:
            break
        now = ranking
    return prune(trials, now.candidates[0], long)


def _longer(sequences: Sequence[Tokens], words: Sequence[Tokens]) -> list[Tokens]:
    """Each sequence with one word more in front or behind, none twice."""
    added = ((sequence, word) for sequence in sequences for word in words if not set(word) & set(sequence))
    return list(dict.fromkeys(grown for sequence, word in added for grown in (word + sequence, sequence + word)))
