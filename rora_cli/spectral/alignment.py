"""Where an update points: its energy inside W's top singular directions, against chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def energy_alignment(directions: Tensor, singular_values: Tensor, basis: Tensor) -> float | None:
    """Fraction of ||DeltaW||_F^2 inside span(``basis``), as a multiple of the uniform fraction k / d (a scalar).

    Let DeltaW = U S V^T, with ``singular_values`` S [r]. For ``directions`` U [d, r], and W's top-k left singular
    vectors as ``basis`` U_k [d, k], this is L_k = (d / k) ||U_k^T U S||_F^2 / ||S||^2; for V and the right singular
    vectors it is R_k. A random update has 1 on average; a zero update has None.
    """
    energy = singular_values.double().square()
    total = float(energy.sum())
    if total == 0:
        return None
    inside = (basis.double().T @ directions.double()).square().sum(dim=0) @ energy
    return float(inside) / total * basis.shape[0] / basis.shape[1]


@dataclass(frozen=True)
class NullBand:
    """The multiples of chance that random directions have: the ``mean`` (exactly 1), and a range with 95 % of them."""

    mean: float
    low: float
    high: float


def null_band(d: int, k: int, singular_values: Tensor) -> NullBand:
    """The distribution of :func:`energy_alignment` for a Haar-random frame [d, r] with ``singular_values`` [r].

    The fraction is sum_i p_i T_i, with energies p_i that sum to 1. T_i is the squared length of the first k entries of
    a random unit vector: it is Beta(k/2, (d-k)/2) with variance v, and cov(T_i, T_j) = -v / (d-1), because all d of
    them sum to k. So the mean k/d and the variance v (d sum p^2 - 1) / (d-1) are exact; the band is that of the Beta
    distribution with these two moments.
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
