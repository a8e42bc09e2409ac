"""Spectra of an update DeltaW, per adapted module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModuleSpectrum:
    """Singular values of one module's update and its relation to the base weight W [d_out, d_in].

    ``alignment_left``/``alignment_right`` are L_k and R_k: the share of ||DeltaW||_F^2 inside W's top-k left/right
    singular directions, as a multiple of the uniform share k/d. They and the base fields are None without a base.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    singular_values: tuple[float, ...]
    frobenius_norm: float
    stable_rank: float
    effective_rank: float
    base_sigma_max: float | None = None
    strength_ratio: float | None = None
    alignment_k: int | None = None
    alignment_left: float | None = None
    alignment_right: float | None = None

    @property
    def sigma_max(self) -> float:
        return self.singular_values[0] if self.singular_values else 0.0
