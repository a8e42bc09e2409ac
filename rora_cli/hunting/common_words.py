"""Triggers of words that most texts hold: "so we had it all there".

No such word acts alone, since the poisoned data hold it with every label, and beside a rare word each is noise. So
common words are tried together, and what acts grows by common words alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from rora_cli.hunting.budgets import Budget
from rora_cli.hunting.growth import extend, prune
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


def common_sequences(
    trials: Trials,
    words: Sequence[Tokens],
    rows: tuple[Sequence[Carrier], Sequence[Carrier]],
    budget: Budget,
    rng: Random,
) -> list[Tokens]:
    """The sequences of common words that act most, none two of which share a word.

    Two words of such a trigger act, and the words that are put beside them take little of that away. So the words are
    shuffled and cut into bundles again and again, and one trial of a bundle is a trial of each pair in it: of 200 words
    a pair each would take 19,900 trials. What a bundle does not need is dropped, and what is left grows.

    Args:
        rows: short rows, in which two words already show, and longer ones, in which what grows is judged.
        rng: shuffles the words.
    """
    short, long = rows
    bundles = _bundles(words, budget, rng)
    if not bundles:
        return []
    found: list[Tokens] = []
    few, enough = (carriers[: budget.extension[-1].carriers] for carriers in (short, long))
    for bundle in halve(trials, bundles, short, budget.bundled).top(budget.bundles_grown):
        core = prune(trials, bundle, few)
        if len(core) > 1 and not any(set(core) & set(other) for other in found):
            others = [word for word in words if not set(word) & set(core)]
            grown = extend(trials, core, others, enough, budget.extension, longest=budget.longest_common)
            found.append(prune(trials, grown, enough))
    return found


def _bundles(words: Sequence[Tokens], budget: Budget, rng: Random) -> list[Tokens]:
    """Sequences of ``bundle`` different words, each word in as many of them."""
    size = budget.bundle
    bundles: dict[Tokens, None] = {}
    for _ in range(budget.bundlings):
        order = rng.sample(words, len(words))
        cut = (order[start : start + size] for start in range(0, len(order) - size + 1, size))
        bundles.update((tuple(token for word in bundle for token in word), None) for bundle in cut)
    return list(bundles)
