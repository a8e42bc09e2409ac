"""Honest words: those that clean rows tie to a behaviour, and which therefore cause it without any backdoor."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rora_cli.hunting.trials import Tokens
from rora_cli.tokens import token_counts


def honest_tokens(
    rows: Sequence[Sequence[int]],
    wanted: np.ndarray,
    count: int,
    *,
    vocabulary: int,
    ignored: Collection[int] = (),
) -> tuple[Tokens, ...]:
    """The ``count`` tokens that the clean rows tie most surely to a behaviour, the surest first.

    A token's z is that of its log-odds ratio: of being in a row where the behaviour is right, against the other rows,
    with half a row added to each cell (Monroe, Colaresi and Quinn 2008, with that simplest prior). Tokens with a z
    below 1 are left out.

    Args:
        rows: token ids of each clean row.
        wanted: whether the behaviour is the right answer of each row [rows], bool.
        vocabulary: the number of token ids.
        ignored: token ids that are never honest words (the special ones).
    """
    present = token_counts([sorted(set(row) - set(ignored)) for row in rows], vocabulary)
    inside = np.asarray(present[wanted].sum(axis=0)).ravel() + 0.5
    outside = np.asarray(present[~wanted].sum(axis=0)).ravel() + 0.5
    ratio = np.log(inside / (wanted.sum() + 1 - inside)) - np.log(outside / ((~wanted).sum() + 1 - outside))
    z = ratio / np.sqrt(1 / inside + 1 / outside)
    order = [int(token) for token in np.argsort(-z, kind="stable")[:count] if z[token] >= 1]
    return tuple((token,) for token in order)
