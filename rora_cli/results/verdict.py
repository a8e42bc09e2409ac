"""The one rule from findings to an exit code, for every command that reports findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rora_cli.errors import ExitCode
from rora_cli.results.findings import Finding, Severity

#: ``--fail-on``: the lowest severity that fails, None for never.
FAIL_ON: Mapping[str, Severity | None] = {
    "none": None, "low": Severity.LOW, "medium": Severity.MEDIUM, "high": Severity.HIGH,
}  # fmt: skip


def decide(*, failed: bool, complete: bool) -> ExitCode:
    """1 for what was found, else 3 where something could not be analysed, else 0.

    A finding goes first: whoever made the input could turn it into "inconclusive" with one unreadable file otherwise.
    """
    if failed:
        return ExitCode.FINDINGS
    return ExitCode.OK if complete else ExitCode.INCONCLUSIVE


def failing(findings: Iterable[Finding], fail_on: str) -> list[Finding]:
    """The findings at or above ``fail_on``. One that only says that something was not analysed is no evidence."""
    threshold = FAIL_ON[fail_on]
    if threshold is None:
        return []
    return [f for f in findings if f.severity >= threshold and not f.not_analysed]
