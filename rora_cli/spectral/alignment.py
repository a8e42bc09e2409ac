"""Where an update points: its energy inside W's top singular directions, against chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def energy_alignment(directions: Tensor, singular_values: Tensor, basis: Tensor) -> float | None:
    """Share of ||DeltaW||_F^2 inside span(``basis``), as a multiple of the uniform share k / d.

    With DeltaW = U S V^T, ``directions`` U [d, r] and ``basis`` the top-k left singular vectors of W [d, k] it is L_k =
    (d / k) ||U_k^T U S||_F^2 / ||S||^2; with V and the right ones it is R_k. 1 is chance; None for a zero update.
    """
    energy = singular_values.double().square()
    total = float(energy.sum())
    if total == 0:
        return None
    inside = (basis.double().T @ directions.double()).square().sum(dim=0) @ energy
    return float(inside) / total * basis.shape[0] / basis.shape[1]


@dataclass(frozen=True)
class NullBand:
    """What random directions give: the mean of the multiple is 1 exactly; ``low`` to ``high`` hold 95 % of it."""

    mean: float
    low: float
    high: float


def null_band(d: int, k: int, singular_values: Tensor) -> NullBand:
    """The distribution of :func:`energy_alignment` for a Haar-random frame [d, r] that has these singular values.

    With energies p_i, the share is sum_i p_i T_i where T_i, the squared length of a random unit vector's first k
    entries, is Beta(k/2, (d-k)/2) of variance v, and cov(T_i, T_j) = -v / (d-1), since all d of them sum to k. So the
    mean is k/d and the variance v (d sum p^2 - 1) / (d-1), both exact; the band is the Beta's with these two moments.
    """
    from scipy.stats import beta

    energy = singular_values.double().square()
    total = float(energy.sum())
    if total == 0 or k >= d:
        return NullBand(1.0, 1.0, 1.0)
    p = energy / total
    mean = k / d
    variance = 2 * k * (d - k) / (d**2 * (d + 2)) * (d * float(p.square().sum()) - 1) / (d - 1)
    if variance <= 0:
        return NullBand(1.0, 1.0, 1.0)
    concentration = mean * (1 - mean) / variance - 1
    low, high = beta.ppf([0.025, 0.975], mean * concentration, (1 - mean) * concentration)
    return NullBand(1.0, float(low) / mean, float(high) / mean)


def principal_angles(directions: Tensor, basis: Tensor) -> Tensor:
    """Principal angles [min(r, k)] in degrees, smallest first, between two orthonormal frames [d, r] and [d, k]."""
    cosines = torch.linalg.svdvals(basis.double().T @ directions.double()).clamp(max=1.0)
    return torch.rad2deg(torch.arccos(cosines))
