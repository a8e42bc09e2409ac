"""What ``rora rescale`` did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance


@dataclass(frozen=True)
class RescaledModule:
    """One module's update before and after; sigmas are sigma_max of s B A, measured on the factors as written.

    ``asked_factor`` is what the rule gave, ``factor`` what was applied after the cap and the guard; ``wanted_sigma`` is
    ``factor * sigma_before``, and ``relative_error`` how far ``sigma_after`` is from it: the post-condition.
    ``is_unchanged``: the factor was 1 within the rounding of the tensor's type, and not a bit was touched.
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
        return abs(self.factor) < abs(self.asked_factor)

    @property
    def strength_after(self) -> float | None:
        """sigma_max(s B A) / sigma_max(W): 1 is equation 12."""
        return self.sigma_after / self.sigma_base if self.sigma_base else None


@dataclass(frozen=True)
class ScaleAttempt:
    """One strength that was tried on clean data: the share of the asked factors, and the accuracy that it left."""

    strength: float
    accuracy: CleanAccuracy
    accepted: bool


@dataclass(frozen=True)
class RescaleResult:
    """``layers`` as chosen; ``left_alone`` the adapted modules outside of them; ``kept_whole`` the tensors that the
    adapter carries beside its updates (modules_to_save), which no factor touches. ``strength`` is the share of the
    asked factors that was kept: 1 unless the guard backed off, 0 where nothing kept clean accuracy.
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
        return max((m.relative_error for m in self.modules), default=0.0)
