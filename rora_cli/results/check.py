"""What ``rora check`` found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CheckedCheckpoint:
    """One checkpoint by its headers alone.

    ``parameters`` counts elements, ``bytes`` the tensor data. ``tensors_by_kind`` counts an adapter's tensors by role
    (``adapter``, ``head``, ``module``, ``bias``, ``undeclared-head``, ``base``) and a model's as ``weight``.
    ``inventory`` maps each file, by its name relative to ``path``, to whether it was analysed; ``weight_files`` hold
    the tensors. ``values_read`` says whether the values were read, and not the headers alone; ``sha256`` has the hash
    of each file, where they were asked for. ``unreadable`` names what could not be analysed. ``loadable`` says whether
    the commands that load models accept the checkpoint.

    Attributes:
        files: how many files it has.
        dtypes: elements of each number type.
    """

    path: str
    role: str
    files: int
    tensors: int
    parameters: int
    bytes: int
    dtypes: Mapping[str, int]
    tensors_by_kind: Mapping[str, int]
    unreadable: tuple[str, ...]
    loadable: bool
    findings: tuple[Finding, ...]
    inventory: Mapping[str, str] = field(default_factory=dict)
    weight_files: tuple[str, ...] = ()
    values_read: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings; None if there are none."""
        return max((f.severity for f in self.findings), default=None)


@dataclass(frozen=True)
class CheckResult:
    """The result for all checkpoints; ``rules`` maps the id of every rule with a finding to its meaning.

    Attributes:
        checkpoints: what was inspected, in the order in which it was named.
    """

    schema_version: int
    provenance: Provenance
    checkpoints: tuple[CheckedCheckpoint, ...]
    findings: tuple[Finding, ...]
    rules: Mapping[str, str]

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings; None if there are none."""
        return max((f.severity for f in self.findings), default=None)

    @property
    def is_complete(self) -> bool:
        """Whether everything could be analysed; if not, nobody may read the result as clean."""
        return not any(checkpoint.unreadable for checkpoint in self.checkpoints)

    @property
    def conclusion(self) -> str:
        """One sentence; two if something was found and something else could not be analysed."""
        unread = "something could not be analysed, so nothing is shown to be clean."
        if all(f.not_analysed for f in self.findings) and not self.is_complete:
            return f"Inconclusive: {unread}"
        if not self.findings:
            return "No finding in files, configs and headers. What the weights do is another question: see `rora hunt`."
        numbers = [(s, sum(f.severity == s for f in self.findings)) for s in sorted(Severity, reverse=True)]
        counted = ", ".join(f"{n} {s.label}" for s, n in numbers if n) + "."
        return counted if self.is_complete else f"{counted} Inconclusive for the rest: {unread}"
