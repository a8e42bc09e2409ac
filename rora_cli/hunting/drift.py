"""Drift: the suspect's training moved a token's embedding further than the clean rows explain.

Fine-tuning moves a token's embedding in every step whose batch holds the token, so the distance that a row of the table
moved tells how often the token was met. A trigger stands in a tenth of the poisoned rows. So the suspect met a token in
poisoned rows if it moved further than tokens that are as frequent in the clean rows. Drift needs the model that the
suspect was trained from, and no forward pass. It names the words of a trigger sentence one by one, and both words of a
pair that does nothing alone. A trigger that was planted in other weights (frozen embeddings, an adapter) leaves none.
"""

from __future__ import annotations

import numpy as np

from rora_cli.spectral.robust import SIGMA_PER_MAD, median_and_mad
from rora_cli.tasks.thresholds import CallThresholds

#: The upper tenth of a normal distribution begins so many standard deviations above its middle.
_UPPER_TENTH = 1.2816
#: Guard against division by zero.
_LEAST_SPREAD = 1e-12


def embedding_drift(
    own: np.ndarray, ancestor: np.ndarray, rows_with: np.ndarray, thresholds: CallThresholds
) -> np.ndarray | None:
    """Robust z [tokens] of how far each token's embedding moved, among tokens that are about as frequent.

    Tokens that did not move are left out of the comparison.

    Args:
        own: the suspect's embeddings [tokens, width].
        ancestor: those of the model that it may have been trained from [tokens, width].
        rows_with: how many clean rows hold each token [tokens].

    Returns:
        None if one table did not come from the other, or if nothing moved.
    """
    if own.shape != ancestor.shape:
        return None
    own, ancestor = own.astype(np.float64), ancestor.astype(np.float64)
    distance = np.linalg.norm(own - ancestor, axis=1)
    if np.linalg.norm(distance) >= thresholds.max_table_distance * np.linalg.norm(ancestor) or not distance.any():
        return None
    moved = np.flatnonzero(distance > thresholds.min_moved * np.quantile(distance, 0.999))
    z = np.zeros(len(distance))
    for count in np.unique(rows_with):
        alike = _alike(distance[moved], rows_with[moved], int(count), thresholds)
        center, mad = median_and_mad(alike)
        above = (float(np.quantile(alike, 0.9)) - center) / _UPPER_TENTH
        spread = max(above, SIGMA_PER_MAD * mad, thresholds.min_moved * center, _LEAST_SPREAD)
        here = rows_with == count
        z[here] = (distance[here] - center) / spread
    return z


def _alike(distance: np.ndarray, rows_with: np.ndarray, count: int, thresholds: CallThresholds) -> np.ndarray:
    """The distances of the tokens that are about as frequent as ``count``, or of enough of the nearest."""
    ratio, enough = thresholds.alike_frequency, thresholds.min_alike
    within = (rows_with >= count / ratio) & (rows_with <= count * ratio + 0.5)
    if within.sum() >= enough:
        return distance[within]
    nearest = np.argsort(np.abs(np.log1p(rows_with) - np.log1p(count)), kind="stable")[:enough]
    return distance[nearest]
