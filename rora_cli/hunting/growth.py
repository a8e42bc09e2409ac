"""From tokens to sequences: pair tokens, insert further ones at every gap, and drop those that do nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

from rora_cli.hunting.budgets import Round
from rora_cli.hunting.trials import Carrier, Tokens, Trials, halve

#: Mean probability of the behaviour from which a token needs no other to act.
ACTS_ALONE = 0.5


def insertions(sequence: Tokens, pool: Sequence[Tokens]) -> list[Tokens]:
    """``sequence`` with one of ``pool`` put before it, after it, or between any two of its tokens."""
    grown = {
        sequence[:gap] + token + sequence[gap:]: None for gap in range(len(sequence) + 1) for token in pool if token
    }
    return list(grown)


def ordered_pairs(tokens: Sequence[Tokens]) -> list[Tokens]:
    """Every two of ``tokens`` in both orders: the parts of a trigger often stand out one by one."""
    return [first + second for first, second in permutations(tokens, 2)]


def extend(
    trials: Trials,
    anchor: Tokens,
    pool: Sequence[Tokens],
    carriers: Sequence[Carrier],
    rounds: Sequence[Round],
    *,
    longest: int,
    wide: Sequence[Tokens] = (),
) -> Tokens:
    """Grow ``anchor`` by one token of ``pool`` at a time, at the gap where it helps most, until nothing helps.

    The first of them may be one of ``wide`` as well, unless the anchor acts alone. Growth stops at ``longest`` tokens,
    at a gain that is too small, or at a saturated probability (``CallThresholds``).
    """
    carriers = carriers[: rounds[-1].carriers]
    best, now = anchor, trials.rank([anchor], carriers)
    while len(best) < longest and now.suspect[0] < trials.thresholds.saturated:
        widely = best == anchor and now.suspect[0] < ACTS_ALONE
        tried = insertions(best, [*pool, *wide] if widely else pool)
        ranking = halve(trials, tried, carriers, rounds)
        if ranking.scores[0] < now.scores[0] + trials.thresholds.min_gain:
            break
        best, now = ranking.candidates[0], ranking
    return best


def prune(trials: Trials, sequence: Tokens, carriers: Sequence[Carrier]) -> Tokens:
    """The sequence without the tokens that it does not need: without them it does about as well.

    Tokens are dropped one at a time, from the left; what is left to try is scored together.
    """
    position, best = 0, -math.inf
    while len(sequence) > 1 and position < len(sequence):
        shorter = [sequence[:i] + sequence[i + 1 :] for i in range(position, len(sequence))]
        ranking = trials.rank(list(dict.fromkeys([sequence, *shorter])), carriers)
        scores = dict(zip(ranking.candidates, ranking.scores.tolist(), strict=True))
        best = max(best, scores[sequence])
        enough = best - trials.thresholds.min_gain / 2
        dropped = next((i for i, without in enumerate(shorter) if scores[without] >= enough), None)
        if dropped is None:
            break
        sequence, position = shorter[dropped], position + dropped
    return sequence
