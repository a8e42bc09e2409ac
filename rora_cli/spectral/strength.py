"""How large an update is: norms and ranks of its spectrum, and its strength against the base weight."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rora_cli.spectral.factors import widened

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SpectrumStatistics:
    """Summary of the singular values sigma_1 >= sigma_2 >= ... of DeltaW; all zero for a zero update.

    ``stable_rank`` is ||.||_F^2 / sigma_1^2. ``entropy`` is H in nats of p = sigma / sum sigma, and ``effective_rank``
    is exp(H) (Roy and Vetterli 2007). ``energy_share`` is sigma_1 / sum sigma (arXiv:2602.15195), and ``top_energy``
    is sigma_1^2 / ||.||_F^2.
    """

    sigma_max: float
    frobenius_norm: float
    stable_rank: float
    effective_rank: float
    entropy: float
    energy_share: float
    top_energy: float


def spectrum_statistics(singular_values: Iterable[float]) -> SpectrumStatistics:
    """Statistics of ``singular_values`` [r]; sigma_max and the norm are in the units of the matrix."""
    values = [v for v in map(float, singular_values) if v > 0]
    if not values:
        return SpectrumStatistics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    largest, total = max(values), math.fsum(values)
    frobenius = math.hypot(*values)
    shares = [share for v in values if (share := v / total) > 0]
    entropy = max(-math.fsum(map(operator.mul, shares, map(math.log, shares))), 0.0)
    return SpectrumStatistics(
        sigma_max=largest,
        frobenius_norm=frobenius,
        stable_rank=(frobenius / largest) ** 2,
        effective_rank=math.exp(entropy),
        entropy=entropy,
        energy_share=largest / total,
        top_energy=(largest / frobenius) ** 2,
    )


def normalised_strength(sigma_update: float, sigma_base: float) -> float | None:
    """t = sigma_max(DeltaW) / sigma_max(W): one layer's margin is proportional to a_W + t a_Delta (see ``thresholds``).

    None if W is zero, because no finite number is right.
    """
    return sigma_update / sigma_base if sigma_base > 0 else None


def size_normalised_norm(frobenius_norm: float, shape: tuple[int, int]) -> float:
    """||DeltaW||_F / sqrt(d_out d_in): the root mean square of the update's entries (as in arXiv:2605.30189)."""
    return frobenius_norm / math.sqrt(shape[0] * shape[1])


def entry_kurtosis(lora_B: NDArray[Any], lora_A: NDArray[Any] | None = None, *, max_side: int = 128) -> float | None:
    """Kurtosis (3 for a Gaussian) of the entries of B A, for lora_B [d_out, r] and lora_A [r, d_in].

    Without lora_A, ``lora_B`` [d_out, d_in] is the update itself. The kurtosis is that of an even grid of at most
    ``max_side`` rows and columns, so that a large product is never formed whole. None if the entries do not vary.
    """
    rows = _even(lora_B.shape[0], max_side)
    columns = _even((lora_B if lora_A is None else lora_A).shape[1], max_side)
    if lora_A is None:
        entries = widened(lora_B[rows][:, columns])  # indexing has copied
    else:
        entries = widened(lora_B[rows]) @ widened(lora_A[:, columns])
    entries = entries.ravel()
    entries -= np.add.reduce(entries) / entries.size
    square_sum = float(entries @ entries)
    squares = np.square(entries, out=entries)
    return float(squares @ squares) * squares.size / square_sum**2 if square_sum**2 > 0 else None


@lru_cache(maxsize=64)
def _even(size: int, at_most: int) -> NDArray[np.intp]:
    return np.linspace(0, size - 1, min(size, at_most)).round().astype(np.intp)
