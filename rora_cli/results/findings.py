"""Findings: what is wrong or remarkable with an input, in a form that every report can render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How much a finding matters. ``--fail-on`` compares against it; ``NONE`` never stands on a finding."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One finding.

    ``rule_id`` is stable across releases (``area/what``, e.g. ``adapter/hidden-base-tensor``). ``location`` is the
    file, tensor or module that it is about. ``blocking`` findings stop the commands that would run or merge the model.
    ``not_analysed`` ones say that something could not be read: never clean, and no evidence either. ``accepted`` says
    why one does not count (its rule is ignored, or a baseline has it); its severity is then information.
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
