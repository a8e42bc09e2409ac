"""Spectra of an update DeltaW, per adapted module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """The range, from ``low`` to ``high``, of 95 % of random directions."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside of the band."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class ModuleSpectrum:
    """Singular values of one module's update and its relation to the base weight W [d_out, d_in].

    ``alignment_left`` and ``alignment_right`` are L_k and R_k: the fraction of ||DeltaW||_F^2 inside W's top-k left or
    right singular directions, as a multiple of the uniform fraction k/d. They and the base fields are None without a
    base.

    ``entropy`` and ``energy_share`` are statistics of sigma / sum sigma (arXiv:2602.15195). ``size_normalised_norm`` is
    ||DeltaW||_F / sqrt(d_out d_in), and ``norm_z_score`` the robust z-score of its logarithm among the modules of the
    same ``kind``. ``base_sigma_error`` is the relative error bound of ``base_sigma_max``, and ``rescaling_factor`` the
    factor of equation 12. Angles are principal angles in degrees between the update's subspace and W's top-k.

    Attributes:
        name: the module, as the model calls it.
        shape: [d_out, d_in] of W.
        rank: of the update.
        singular_values: of the update, largest first; the top ones alone where ``spectrum_is_truncated``.
        frobenius_norm: ||DeltaW||_F.
        stable_rank: ||DeltaW||_F^2 / sigma_max^2.
        effective_rank: exp of the entropy of sigma / sum sigma.
        base_sigma_max: sigma_max(W).
        strength_ratio: sigma_max(DeltaW) / sigma_max(W).
        alignment_k: how many of W's directions alignment counts.
        format: of the adapter that holds it.
        block: number of the transformer block; None outside of the blocks.
        kind: query, value, down, ...; None for another module.
        scaling: factor on the product of the adapter's matrices.
        entry_kurtosis: of DeltaW's entries; 3 for a Gaussian.
        null_left, null_right: where L_k and R_k of random updates with this spectrum lie.
        smallest_angle_left, smallest_angle_right: smallest principal angle [degrees] between the update and W's top-k.
        base_singular_values: the top singular values of W.
        intruder_dimensions: top singular directions of W + DeltaW that are unlike all of W's; None if not asked for.
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
    format: str | None = None
    block: int | None = None
    kind: str | None = None
    scaling: float | None = None
    entropy: float | None = None
    energy_share: float | None = None
    entry_kurtosis: float | None = None
    size_normalised_norm: float | None = None
    norm_z_score: float | None = None
    spectrum_is_truncated: bool = False
    base_sigma_error: float | None = None
    rescaling_factor: float | None = None
    null_left: Band | None = None
    null_right: Band | None = None
    smallest_angle_left: float | None = None
    smallest_angle_right: float | None = None
    base_singular_values: tuple[float, ...] | None = None
    intruder_dimensions: int | None = None

    @property
    def sigma_max(self) -> float:
        """The largest singular value; 0 for an empty spectrum."""
        return self.singular_values[0] if self.singular_values else 0.0
