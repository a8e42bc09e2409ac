"""The one rule that turns findings into an exit code, for every command that reports findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rora_cli.errors import ExitCode
from rora_cli.results.findings import Finding, Severity

#: Value of ``--fail-on`` -> lowest severity that fails the command; None never fails it.
FAIL_ON: Mapping[str, Severity | None] = {
    "none": None, "low": Severity.LOW, "medium": Severity.MEDIUM, "high": Severity.HIGH,
}  # fmt: skip


def decide(*, failed: bool, complete: bool) -> ExitCode:
    """1 if something was found, else 3 if something could not be analysed, else 0.

    A finding goes first: otherwise one unreadable file would let the input's author turn it into "inconclusive".
    """
    if failed:
        return ExitCode.FINDINGS
    return ExitCode.OK if complete else ExitCode.INCONCLUSIVE


def failing(findings: Iterable[Finding], fail_on: str) -> list[Finding]:
    """The findings at or above ``fail_on``, without those that only say that something was not analysed."""
    threshold = FAIL_ON[fail_on]
    if threshold is None:
        return []
    return [f for f in findings if f.severity >= threshold and not f.not_analysed]
