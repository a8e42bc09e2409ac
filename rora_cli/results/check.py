"""What ``rora check`` and ``rora verify`` found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rora_cli.results.findings import Finding, Severity
from rora_cli.results.provenance import Provenance


@dataclass(frozen=True)
class CheckedCheckpoint:
    """One checkpoint by its headers alone.

    ``parameters`` counts elements and ``bytes`` the tensor data; ``tensors_by_kind`` counts an adapter's tensors by
    what they are (``adapter``, ``head``, ``module``, ``bias``, ``undeclared-head``, ``base``), a model's as ``weight``.
    ``inventory`` says of every file, by its name relative to ``path``, whether it was analysed; ``weight_files`` are
    those that the tensors are in. ``unreadable`` names what could not be analysed; ``loadable`` says whether rora's
    other commands would accept it.
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

    @property
    def worst(self) -> Severity | None:
        return max((f.severity for f in self.findings), default=None)


@dataclass(frozen=True)
class CheckResult:
    """``rules`` maps the id of every rule that found something to its meaning."""

    schema_version: int
    provenance: Provenance
    checkpoints: tuple[CheckedCheckpoint, ...]
    findings: tuple[Finding, ...]
    rules: Mapping[str, str]

    @property
    def worst(self) -> Severity | None:
        return max((f.severity for f in self.findings), default=None)

    @property
    def is_complete(self) -> bool:
        """Whether everything could be analysed; otherwise the result must not be read as clean."""
        return not any(checkpoint.unreadable for checkpoint in self.checkpoints)

    @property
    def conclusion(self) -> str:
        """One sentence, or two where something was found and something could not be analysed."""
        unread = "something could not be analysed, so nothing is shown to be clean."
        if all(f.not_analysed for f in self.findings) and not self.is_complete:
            return f"Inconclusive: {unread}"
        if not self.findings:
            return "No finding in files, configs and headers. What the weights do is another question: see `rora hunt`."
        numbers = [(s, sum(f.severity == s for f in self.findings)) for s in sorted(Severity, reverse=True)]
        counted = ", ".join(f"{n} {s.label}" for s, n in numbers if n) + "."
        return counted if self.is_complete else f"{counted} Inconclusive for the rest: {unread}"


@dataclass(frozen=True)
class VerifyResult:
    """``manifest_sha256`` identifies the whole output: who has it from a trusted place can compare it."""

    schema_version: int
    provenance: Provenance
    path: str
    manifest_sha256: str
    files_matching: int
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        return not self.findings
