"""Pt, the post-training spectral rescaling of an adapter (arXiv:2601.06305, equation 12), on the small factors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rora_cli.errors import CheckpointError
from rora_cli.spectral.decomposition import product_singular_values


@dataclass(frozen=True)
class Rescaled:
    """A rescaled module. The update is scaling * lora_B @ lora_A, with lora_A and the scaling as before.

    ``lora_B`` [d_out, r] in the dtype asked for; ``factor`` what multiplied it; ``uncapped_factor`` what the rule asked
    for; ``sigma_before`` and ``sigma_after`` are sigma_max of the update, the latter measured on the rounded factors.
    """

    lora_B: Tensor
    factor: float
    uncapped_factor: float
    sigma_before: float
    sigma_after: float

    @property
    def capped(self) -> bool:
        return self.factor < self.uncapped_factor


def equation_12_factor(
    sigma_base: float, sigma_update: float, *, strength: float = 1.0, cap: float | None = None
) -> float:
    """The factor that makes sigma_max(DeltaW) = ``strength`` * sigma_max(W); ``strength`` 1 is equation 12.

    ``sigma_update`` is sigma_max of the whole update, s B A, scaling included: then the factor multiplies the update
    and does not depend on alpha. At most ``cap`` where given. Raises CheckpointError for a zero or non-finite update.
    """
    if not (math.isfinite(sigma_base) and sigma_base > 0):
        raise CheckpointError(f"sigma_max(W) is {sigma_base}: equation 12 has no factor for such a base weight.")
    if not (math.isfinite(sigma_update) and sigma_update > 0):
        raise CheckpointError(f"sigma_max(DeltaW) is {sigma_update}: no factor makes such an update as strong as W.")
    factor = strength * sigma_base / sigma_update
    return factor if cap is None else min(factor, cap)


def rescale_module(
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: float,
    *,
    sigma_base: float | None = None,
    strength: float = 1.0,
    factor: float | None = None,
    cap: float | None = None,
    dtype: torch.dtype | None = None,
) -> Rescaled:
    """Rescale one module, lora_A [r, d_in] and lora_B [d_out, r], to ``strength`` times sigma_max(W), or by ``factor``.

    The product with lora_B is taken in float64 and rounded once, to ``dtype`` (lora_B's own by default). Raises
    CheckpointError when neither rule applies, when the update is zero, or when the result does not fit ``dtype``.
    """
    before = abs(scaling) * float(product_singular_values(lora_B, lora_A)[0])
    if factor is None:
        if sigma_base is None:
            raise CheckpointError("equation 12 needs sigma_max(W): give the base model, or a fixed factor.")
        factor = equation_12_factor(sigma_base, before, strength=strength)
    used = factor if cap is None else min(factor, cap)
    rescaled = fold(lora_B, used, dtype=dtype)
    after = abs(scaling) * float(product_singular_values(rescaled, lora_A)[0])
    return Rescaled(rescaled, used, factor, before, after)


def fold(lora_B: Tensor, factor: float, *, dtype: torch.dtype | None = None) -> Tensor:
    """``factor`` * lora_B, computed in float64 and rounded once to ``dtype`` (lora_B's own by default)."""
    folded = (lora_B.double() * factor).to(dtype or lora_B.dtype)
    if not torch.isfinite(folded).all():
        raise CheckpointError(
            f"lora_B times {factor:.4g} does not fit {folded.dtype}: use a smaller cap or a wider dtype (float32)."
        )
    return folded
