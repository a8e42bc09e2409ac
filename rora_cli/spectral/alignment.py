"""Where an update points: its energy inside W's top singular directions, against chance."""

from __future__ import annotations

import math
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


def null_band(d: int, k: int, singular_values: Tensor, *, draws: int = 1000, seed: int = 0) -> NullBand:
    """The distribution of :func:`energy_alignment` for a Haar-random frame [d, r] that has these singular values.

    A Haar frame is the Q of a Gaussian G = [G_1; G_2] with k and d - k rows, so the energies inside are the column
    norms of G_1 R^-1 where R^T R = G_1^T G_1 + G_2^T G_2. Both Gram matrices are Wishart, drawn by Bartlett's
    decomposition: the cost does not depend on d.
    """
    weights = singular_values.double().square()
    weights = weights[weights > 0]
    r = weights.numel()
    if r == 0 or k >= d:
        return NullBand(1.0, 1.0, 1.0)
    generator = torch.Generator().manual_seed(seed)
    inside = _wishart(k, r, draws, generator)
    R = torch.linalg.cholesky(inside + _wishart(d - k, r, draws, generator), upper=True)
    projected = torch.linalg.solve_triangular(R.mT, inside, upper=False)
    captured = torch.linalg.solve_triangular(R, projected, upper=True, left=False).diagonal(dim1=1, dim2=2)
    shares = captured @ (weights / weights.sum()) * d / k
    low, high = shares.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return NullBand(float(shares.mean()), low, high)


def _wishart(rows: int, r: int, draws: int, generator: torch.Generator) -> Tensor:
    """G^T G [draws, r, r] for Gaussian G [rows, r]; singular, and drawn from G itself, where rows < r."""
    if rows < r:
        G = torch.randn(draws, rows, r, generator=generator, dtype=torch.float64)
        return G.mT @ G
    T = torch.randn(draws, r, r, generator=generator, dtype=torch.float64).triu(1)
    degrees = torch.arange(rows, rows - r, -1, dtype=torch.float64).expand(draws, r)
    chi_square = 2 * torch._standard_gamma(degrees / 2, generator=generator)
    T.diagonal(dim1=1, dim2=2).copy_(chi_square.sqrt())
    return T.mT @ T


def principal_angles(directions: Tensor, basis: Tensor) -> Tensor:
    """Principal angles [min(r, k)] in degrees, smallest first, between two orthonormal frames [d, r] and [d, k]."""
    cosines = torch.linalg.svdvals(basis.double().T @ directions.double()).clamp(max=1.0)
    return torch.rad2deg(torch.arccos(cosines))


def aligned_share(multiple: float, d: int, k: int) -> float:
    """The share in [0, 1] behind a multiple of chance."""
    return min(multiple * k / d, 1.0) if math.isfinite(multiple) else 0.0
