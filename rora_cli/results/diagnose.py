"""What ``rora diagnose`` found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rora_cli.results.findings import Finding, Severity
from rora_cli.results.margins import Margins
from rora_cli.results.provenance import Provenance
from rora_cli.results.spectra import ModuleSpectrum


@dataclass(frozen=True)
class Coverage:
    """How much of a file was analysed: ``tensors`` = ``measured`` + ``aside`` + ``unmeasured``.

    ``aside`` are those that carry no update of a weight by their nature (heads saved whole, biases, scales);
    ``unmeasured`` could not be analysed, and while there are some the report is inconclusive.
    """

    tensors: int
    measured: int
    aside: int
    unmeasured: int
    modules: int
    modules_with_base: int


@dataclass(frozen=True)
class GroupSummary:
    """The modules of one kind (query, value, down, ...) or of one block. ``spread`` is the standard deviation over the
    mean of their size-normalised norms, ``median_norm`` the median of these."""

    name: str
    modules: int
    median_sigma_max: float
    largest_sigma_max: float
    median_norm: float
    spread: float
    median_strength_ratio: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """One adapter, or one model against its base. ``error`` is set, and the rest is empty, where it could not be read.

    ``groups`` summarises the modules by kind, ``blocks`` by block; ``set_aside`` and ``unmeasured`` map tensor names to
    the reason; ``spread_of_norms`` is the standard deviation over the mean of the size-normalised norms of all modules
    (arXiv:2605.30189); ``files`` are the names of what was inspected, relative to ``path``, the weights first.
    """

    path: str
    format: str = ""
    modules: tuple[ModuleSpectrum, ...] = ()
    groups: tuple[GroupSummary, ...] = ()
    blocks: tuple[GroupSummary, ...] = ()
    spread_of_norms: float | None = None
    coverage: Coverage | None = None
    set_aside: Mapping[str, str] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    error: str | None = None
    files: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        return self.error is None and self.coverage is not None and not self.unmeasured and self.coverage.measured > 0

    @property
    def worst(self) -> Severity | None:
        return max((f.severity for f in self.findings), default=None)


@dataclass(frozen=True)
class DiagnoseResult:
    """``rules`` gives the one-line meaning of every rule that a finding names; ``conclusion`` is the honest summary."""

    schema_version: int
    provenance: Provenance
    adapters: tuple[Diagnosis, ...]
    base: str | None
    top_k: int
    calibration: str | None
    conclusion: str
    rules: Mapping[str, str] = field(default_factory=dict)
    margins: Margins | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(f for adapter in self.adapters for f in adapter.findings)

    @property
    def is_complete(self) -> bool:
        return all(adapter.is_complete for adapter in self.adapters)
