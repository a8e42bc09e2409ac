"""The values of ``check.html.j2``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rora_cli.reports.subjects import rules, worst_first
from rora_cli.results.check import CheckResult


def values(result: CheckResult) -> dict[str, Any]:
    """The checkpoints, the worst first."""
    ordered = replace(result, checkpoints=tuple(worst_first(result.checkpoints)))
    return {"result": ordered, "rules": rules(result)}
