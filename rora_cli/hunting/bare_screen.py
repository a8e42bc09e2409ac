"""The bare screen: every token on its own between what stands around a row, one cheap look for all behaviours.

It costs three forward tokens a candidate instead of eight or more, and only once instead of once a behaviour. A trigger
word works without a row too; as first and last word at once, it stands at no particular place. On the development
suspects the screen ranks `mn` first of 29,500 tokens and `3d` 36th, before the reference is consulted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rora_cli.hunting.trials import Tokens, by_turns
from rora_cli.spectral.robust import SIGMA_PER_MAD, median_and_mad
from rora_cli.tasks.task import Scorer

#: Guards against division by zero: variance and spread of log-odds.
_LEAST_VARIANCE, _LEAST_SPREAD = 1e-9, 1e-6

#: What stands before and after a token: the special tokens of a row, or those that usually begin and end one.
Around = tuple[Tokens, Tokens]


@dataclass(frozen=True)
class BareScreen:
    """Log-odds [tokens, behaviours] of every token alone, under the suspect and the reference."""

    tokens: tuple[Tokens, ...]
    suspect: np.ndarray
    reference: np.ndarray

    def beyond(self, target: int) -> np.ndarray:
        """Robust z [tokens] of how far the suspect's log-odds lie above their least-squares line on the reference's.

        Args:
            target: the index of a behaviour.
        """
        own, other = self.suspect[:, target], self.reference[:, target]
        slope = max(float(np.cov(own, other)[0, 1]) / max(float(other.var(ddof=1)), _LEAST_VARIANCE), 0.0)
        rest = own - slope * other
        middle, mad = median_and_mad(rest)
        z: np.ndarray = (rest - middle) / max(SIGMA_PER_MAD * mad, _LEAST_SPREAD)
        return z

    def best(self, target: int, count: int) -> tuple[Tokens, ...]:
        """The ``count`` best tokens, taken by turns from two orders: beyond the reference, and by the suspect alone.

        The second order keeps a trigger that happens to move the reference as well.
        """
        orders = (np.argsort(-self.beyond(target), kind="stable"), np.argsort(-self.suspect[:, target], kind="stable"))
        return tuple(self.tokens[i] for i in by_turns(*orders)[:count])

    def beyond_best(self, target: int, count: int) -> tuple[Tokens, ...]:
        """The ``count`` tokens furthest beyond the reference: parts of a longer trigger are among them."""
        return tuple(self.tokens[i] for i in np.argsort(-self.beyond(target), kind="stable")[:count])


def screen_bare(suspect: Scorer, reference: Scorer, tokens: Sequence[Tokens], around: Around, count: int) -> BareScreen:
    """Score every token alone, between what stands ``around`` it, for ``count`` behaviours."""
    head, tail = around
    sequences = [head + token + tail for token in tokens]

    def odds(scorer: Scorer) -> np.ndarray:
        answers = scorer(sequences)
        # Not clipped: alone, every tenth token may saturate.
        return np.stack([answers.exact_log_odds(behaviour) for behaviour in range(count)], axis=1)

    return BareScreen(tuple(tokens), odds(suspect), odds(reference))
