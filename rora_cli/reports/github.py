"""Workflow commands of GitHub Actions: an annotation for each finding, on the file that has the fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from rora_cli.reports.subjects import Findable, subjects
from rora_cli.reports.text import safe
from rora_cli.results.findings import Finding, Severity

_LEVELS = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "notice"}


def render(result: Findable) -> str:
    """``::error file=...,title=RULE::MESSAGE`` a finding, the worst first; information is left out."""
    found = [(subject, finding) for subject in subjects(result) for finding in subject.findings]
    found.sort(key=lambda pair: -pair[1].severity)
    lines = [
        _line(_LEVELS[finding.severity], str(PurePosixPath(subject.folder) / subject.file(finding)), finding)
        for subject, finding in found
        if finding.severity in _LEVELS
    ]
    return "\n".join([*lines, *_not_analysed(result)])


def _line(level: str, file: str, finding: Finding) -> str:
    message = finding.message if not finding.advice else f"{finding.message.rstrip('.')}. What to do: {finding.advice}."
    return f"::{level} file={_property(file)},title={_property(finding.rule_id)}::{_data(message)}"


def _not_analysed(result: Findable) -> Iterator[str]:
    for subject in subjects(result):
        reported = {finding.location for finding in subject.findings}
        for what, why in subject.problems.items():
            if what not in reported:
                yield f"::warning file={_property(subject.path)},title=not analysed::{_data(f'{what}: {why}')}"


def _data(text: str) -> str:
    """A message, with what the runner would read as an end or an escape encoded as its toolkit does."""
    return safe(text, max_length=2000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
