"""What ``rora diagnose`` found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rora_cli.results.findings import Finding, Severity
from rora_cli.results.margins import Margins
from rora_cli.results.provenance import Provenance
from rora_cli.results.spectra import ModuleSpectrum

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Coverage:
    """How much of a file was analysed: ``tensors`` = ``measured`` + ``aside`` + ``unmeasured``.

    ``aside`` tensors hold no update of a weight by their nature: heads saved whole, biases, scales. ``unmeasured``
    tensors could not be analysed; if there are any, the report is inconclusive.

    Attributes:
        modules: modules with an update.
        modules_with_base: those of them whose base weight was found.
    """

    tensors: int
    measured: int
    aside: int
    unmeasured: int
    modules: int
    modules_with_base: int


@dataclass(frozen=True)
class GroupSummary:
    """The modules of one kind (query, value, down, ...) or of one block.

    ``median_norm`` is the median of their size-normalised norms, ``spread`` the standard deviation of these norms over
    their mean.

    Attributes:
        name: the kind, or the block's number.
        modules: how many there are.
        median_sigma_max, largest_sigma_max: of their updates' largest singular values.
        median_strength_ratio: of sigma_max(DeltaW) / sigma_max(W); None without a base.
    """

    name: str
    modules: int
    median_sigma_max: float
    largest_sigma_max: float
    median_norm: float
    spread: float
    median_strength_ratio: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """One adapter, or one model against its base. If it could not be read, only ``path`` and ``error`` are set.

    ``groups`` summarises the modules by kind, ``blocks`` by block. ``set_aside`` and ``unmeasured`` map tensor names to
    the reason. ``spread_of_norms`` is the standard deviation of the size-normalised norms of all modules over their
    mean (arXiv:2605.30189). ``files`` are the names of the inspected files, relative to ``path``, the weights first.

    Attributes:
        format: the adapter's format, or that it is a whole model.
        coverage: how much of the files was analysed.
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
        """Whether something was measured, and nothing is left unmeasured."""
        return self.error is None and self.coverage is not None and not self.unmeasured and self.coverage.measured > 0

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings; None if there are none."""
        return max((f.severity for f in self.findings), default=None)


@dataclass(frozen=True)
class DiagnoseResult:
    """The diagnoses of all paths, with a ``conclusion`` in words.

    ``rules`` maps the id of every rule with a finding to its meaning.

    Attributes:
        adapters: one for each path.
        base: what the adapters were compared with; None without a base.
        top_k: how many of W's singular directions alignment counts.
        calibration: the file of thresholds; None: spectral findings are information only.
        margins: what the update does to clean rows; None without them.
    """

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
        """The findings of all diagnoses."""
        return tuple(f for adapter in self.adapters for f in adapter.findings)

    @property
    def is_complete(self) -> bool:
        """Whether every diagnosis is complete."""
        return all(adapter.is_complete for adapter in self.adapters)
