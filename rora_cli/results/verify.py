"""What ``rora verify`` found."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.findings import Finding
from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class VerifyResult:
    """Whether an output is as rora wrote it.

    ``manifest_sha256`` identifies the whole output, so a user can compare it with the value from a trusted place.

    Attributes:
        path: the directory that was checked.
        files_matching: files that are as the manifest says.
    """

    schema_version: int
    provenance: Provenance
    path: str
    manifest_sha256: str
    files_matching: int
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether no file differs from the manifest."""
        return not self.findings
