"""What ``rora rules`` lists."""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.results.provenance import Provenance

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RuleText:
    """A rule by its id, stable across releases; ``blocking`` ones stop the commands that would load the checkpoint.

    Attributes:
        id: area and name.
        severity: how much it matters.
        meaning: in a sentence.
        advice: what to do about it.
    """

    id: str
    severity: str
    meaning: str
    advice: str = ""
    blocking: bool = False


@dataclass(frozen=True)
class RulesResult:
    """The rules in the order in which they are documented.

    Attributes:
        rules: each of them.
    """

    schema_version: int
    provenance: Provenance
    rules: tuple[RuleText, ...]
