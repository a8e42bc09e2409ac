"""What ``rora rules`` lists."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.provenance import Provenance


@dataclass(frozen=True)
class RuleText:
    """A rule by its id, stable across releases; ``blocking`` ones stop the commands that would load the checkpoint."""

    id: str
    severity: str
    meaning: str
    advice: str = ""
    blocking: bool = False


@dataclass(frozen=True)
class RulesResult:
    """The rules in the order in which they are documented."""

    schema_version: int
    provenance: Provenance
    rules: tuple[RuleText, ...]
