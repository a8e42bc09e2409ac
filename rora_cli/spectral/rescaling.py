"""Pt, the post-training spectral rescaling of an adapter (arXiv:2601.06305, equation 12), on the small factors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rora_cli.errors import CheckpointError


def equation_12_factor(
    sigma_base: float, sigma_update: float, *, strength: float = 1.0, cap: float | None = None
) -> float:
    """The factor that makes sigma_max(DeltaW) = ``strength`` * sigma_max(W), at most ``cap``; 1 is equation 12.

    ``sigma_update`` is sigma_max of the whole update s B A, scaling included, so the factor does not depend on alpha.
    Raises CheckpointError if ``sigma_base`` or ``sigma_update`` is zero or not finite.
    """
    if not (math.isfinite(sigma_base) and sigma_base > 0):
        raise CheckpointError(f"sigma_max(W) is {sigma_base}: equation 12 has no factor for such a base weight.")
    if not (math.isfinite(sigma_update) and sigma_update > 0):
        raise CheckpointError(f"sigma_max(DeltaW) is {sigma_update}: no factor makes such an update as strong as W.")
    factor = strength * sigma_base / sigma_update
    return factor if cap is None else min(factor, cap)


def fold(lora_B: Tensor, factor: float, *, dtype: torch.dtype | None = None) -> Tensor:
    """``factor`` * lora_B [d_out, r], computed in float64 and rounded once to ``dtype`` (default: that of lora_B).

    Raises CheckpointError if the product overflows ``dtype``.
    """
    folded = (lora_B.double() * factor).to(dtype or lora_B.dtype)
    if not torch.isfinite(folded).all():
        raise CheckpointError(
            f"lora_B times {factor:.4g} does not fit {folded.dtype}: use a smaller cap or a wider dtype (float32)."
        )
    return folded
