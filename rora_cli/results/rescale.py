"""What ``rora rescale`` did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RescaledModule:
    """One module's update before and after; sigmas are sigma_max of s B A, measured on the factors as written.

    The rule asked for ``asked_factor``; after the cap and the guard, ``factor`` was applied. ``wanted_sigma`` is
    ``factor * sigma_before``, and ``relative_error`` is the distance of ``sigma_after`` from it: the post-condition. If
    ``is_unchanged``, the factor was 1 within the rounding of the tensor's type, and no bit changed.

    Attributes:
        name: the module.
        block: number of the transformer block; None outside of the blocks.
        sigma_base: sigma_max(W); None without a base.
    """

    name: str
    block: int | None
    asked_factor: float
    factor: float
    sigma_before: float
    sigma_after: float
    wanted_sigma: float
    relative_error: float
    sigma_base: float | None = None
    is_unchanged: bool = False

    @property
    def is_capped(self) -> bool:
        """Whether the cap or the guard lowered the factor."""
        return abs(self.factor) < abs(self.asked_factor)

    @property
    def strength_after(self) -> float | None:
        """sigma_max(s B A) / sigma_max(W), 1 for equation 12; None without a base."""
        return self.sigma_after / self.sigma_base if self.sigma_base else None


@dataclass(frozen=True)
class ScaleAttempt:
    """One strength (a fraction of the factors that the rule asks for) that was tried, with its clean accuracy.

    Attributes:
        strength: the fraction.
        accuracy: clean accuracy with it.
        accepted: whether that was good enough.
    """

    strength: float
    accuracy: CleanAccuracy
    accepted: bool


@dataclass(frozen=True)
class RescaleResult:
    """The rescaled adapter.

    ``layers`` is the user's choice, and ``left_alone`` are the adapted modules outside of it. ``kept_whole`` are the
    tensors that the adapter carries beside its updates (modules_to_save); no factor touches them. ``strength`` is the
    fraction of the factors that was kept: 1 unless the guard lowered it, 0 if no strength keeps clean accuracy.

    Attributes:
        adapter: what was rescaled.
        base: the model that it belongs to; None for a rule that needs none.
        output: the directory that was written.
        via: where the factor was put: into the matrices, or into the config.
        modules: each module's update.
        accuracy_before, accuracy_after: on clean rows; None without them.
        attempts: strengths that were tried.
        alpha_pattern: what the config holds of it; None where the matrices do.
        notes: sentences for the user.
    """

    schema_version: int
    provenance: Provenance
    adapter: str
    base: str | None
    output: str
    via: str
    layers: str
    strength: float
    modules: tuple[RescaledModule, ...]
    left_alone: tuple[str, ...]
    kept_whole: tuple[str, ...]
    accuracy_before: CleanAccuracy | None = None
    accuracy_after: CleanAccuracy | None = None
    attempts: tuple[ScaleAttempt, ...] = ()
    alpha_pattern: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def largest_error(self) -> float:
        """The largest relative error of the post-condition over all modules."""
        return max((m.relative_error for m in self.modules), default=0.0)
