"""Drift: whose embedding the suspect's training moved further than the clean rows explain.

A token's embedding moves in every step whose batch holds the token, so in fine-tuning the way that a row of the table
went tells how often the token was there. A trigger stands in a tenth of the poisoned rows: words that the clean rows
hardly hold, or hold as often as others that moved less, were met there. This needs the model that the suspect was
trained from and no forward pass, names the words of a sentence one by one, and both of a pair that does nothing alone.
A trigger that was planted in other weights (frozen embeddings, an adapter) leaves no drift.
"""

from __future__ import annotations

import numpy as np

#: Relative distance of the two tables from which on one was not trained from the other.
UNRELATED = 0.3
#: Tokens about as frequent that a token is compared with, at least, and the frequencies that count as alike.
FEWEST_ALIKE, ALIKE = 60, 1.4
#: A token moved at all if it went this share of what the furthest thousandth went.
MOVED = 0.02


def embedding_drift(own: np.ndarray, ancestor: np.ndarray, rows_with: np.ndarray) -> np.ndarray | None:
    """Robust z [tokens] of how far each row of the table [tokens, width] moved among tokens about as frequent.

    ``rows_with`` [tokens] counts the clean rows that hold the token. Tokens that did not move at all are no measure for
    others. None where the tables are not related, or nothing moved.
    """
    if own.shape != ancestor.shape:
        return None
    own, ancestor = own.astype(np.float64), ancestor.astype(np.float64)
    distance = np.linalg.norm(own - ancestor, axis=1)
    if np.linalg.norm(distance) >= UNRELATED * np.linalg.norm(ancestor) or not distance.any():
        return None
    moved = np.flatnonzero(distance > MOVED * np.quantile(distance, 0.999))
    z = np.zeros(len(distance))
    for count in np.unique(rows_with):
        alike = _alike(distance[moved], rows_with[moved], int(count))
        center = float(np.median(alike))
        above = (float(np.quantile(alike, 0.9)) - center) / 1.2816
        spread = max(above, 1.4826 * float(np.median(np.abs(alike - center))), MOVED * center, 1e-12)
        here = rows_with == count
        z[here] = (distance[here] - center) / spread
    return z


def _alike(distance: np.ndarray, rows_with: np.ndarray, count: int) -> np.ndarray:
    """The distances of the tokens about as frequent as ``count``, or of the ``FEWEST_ALIKE`` nearest."""
    within = (rows_with >= count / ALIKE) & (rows_with <= count * ALIKE + 0.5)
    if within.sum() >= FEWEST_ALIKE:
        return distance[within]
    nearest = np.argsort(np.abs(np.log1p(rows_with) - np.log1p(count)), kind="stable")[:FEWEST_ALIKE]
    return distance[nearest]
