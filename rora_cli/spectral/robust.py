"""Robust z: how far a value lies from the middle of others, on a scale that a few outliers do not move (numpy only).

The middle is the median; the scale is the median absolute deviation (MAD) from it, in units of a standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: MAD of a normal distribution [standard deviations]: its 3/4 quantile.
MAD_OF_NORMAL = 0.6745
#: Standard deviation of a normal distribution [MADs]: the inverse of ``MAD_OF_NORMAL``, rounded as most texts do.
SIGMA_PER_MAD = 1.4826


def median_and_mad(values: Sequence[float] | NDArray[Any]) -> tuple[float, float]:
    """Median and MAD (two scalars) of ``values`` [n], n >= 1, in the units and the precision of ``values``."""
    array = np.asarray(values)
    middle = float(np.median(array))
    return middle, float(np.median(np.abs(array - middle)))


def robust_z_scores(values: Sequence[float]) -> list[float | None]:
    """Modified z-scores .6745 (x - median) / MAD [n] of ``values`` [n] (Iglewicz and Hoaglin 1993).

    All are None if there are fewer than three values, or if the MAD is zero.
    """
    if len(values) < 3:
        return [None] * len(values)
    middle, mad = median_and_mad(values)
    return [MAD_OF_NORMAL * (value - middle) / mad for value in values] if mad > 0 else [None] * len(values)
