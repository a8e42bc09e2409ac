"""Findings: faults and oddities of an input, in a form that every report can render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How much a finding matters; ``--fail-on`` names the lowest one that fails a command."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def label(self) -> str:
        """The severity in words, as options and reports write it."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One finding.

    ``rule_id`` is stable across releases (``area/what``, e.g. ``adapter/hidden-base-tensor``). ``location`` is the
    file, tensor or module that the finding is about. A ``blocking`` finding stops the commands that run or merge the
    model. A ``not_analysed`` finding says that rora could not read something: it is no evidence, but the input does not
    count as clean. ``accepted`` says why a finding does not count (the user ignores its rule, or a baseline has it);
    its severity is then information.

    Attributes:
        severity: how much it matters.
        message: what is wrong, in a sentence.
        advice: what to do about it.
        evidence: what the finding rests on, by name; each rule has its own.
    """

    rule_id: str
    severity: Severity
    message: str
    location: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str | None = None
    blocking: bool = False
    not_analysed: bool = False
    accepted: str | None = None
