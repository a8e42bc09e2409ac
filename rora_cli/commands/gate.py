"""What a gate does not count, and how much the rest matters: rules that the user ignores, a baseline, a policy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rora_cli.commands.policy import Policy, read_policy
from rora_cli.errors import UsageError
from rora_cli.option_groups import GateOptions
from rora_cli.results.findings import Finding, Severity

#: A baseline is a report of rora's; larger files are something else.
_MAX_BASELINE_BYTES = 256 << 20
#: Likeness (difflib's ratio) from which a name that could be a file's is a misspelt rule: two letters of twenty.
_MISSPELT = 0.9


@dataclass(frozen=True)
class Gate:
    """``ignored`` are ids of rules, ``known`` the findings of an earlier run: (checkpoint, rule, location).

    ``policy`` has severities and exemptions; ``today`` (UTC) decides which of these have ended.
    """

    ignored: frozenset[str] = frozenset()
    known: frozenset[tuple[str, str, str]] = frozenset()
    policy: Policy = field(default_factory=Policy)
    today: date = field(default_factory=lambda: datetime.now(UTC).date())

    @classmethod
    def of(cls, options: GateOptions, *, rules: Collection[str], files: bool = False) -> Gate:
        """The gate that ``options`` ask for; ``rules`` are those that the command has.

        With ``files``, a name that is no rule is a pattern of files, which is the command's own business, unless it
        is a rule but for a letter or two. Raises UsageError for a rule that does not exist, a baseline that is no
        report of rora's, and a policy that is none.
        """
        likeness = _MISSPELT if files else 0.6
        for name in (name for name in options.ignore if name not in rules):
            close = difflib.get_close_matches(name, rules, n=1, cutoff=likeness)
            if files and not close:
                continue
            advice = f"did you mean {close[0]}?" if close else "`rora rules` lists them"
            raise UsageError(f"--ignore {name!r} is no rule; {advice}")
        known = _known(options.baseline) if options.baseline is not None else ()
        policy = read_policy(options.policy) if options.policy is not None else Policy()
        return cls(frozenset(options.ignore) & frozenset(rules), frozenset(known), policy)

    def settle(self, checkpoint: str, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """The findings of ``checkpoint``; those that are not to count are information, and say so."""
        return tuple(self._settled(checkpoint, finding) for finding in findings)

    def _settled(self, checkpoint: str, finding: Finding) -> Finding:
        if finding.rule_id in self.ignored:
            return _accepted(finding, "ignored as asked")
        if (checkpoint, finding.rule_id, finding.location or "") in self.known:
            return _accepted(finding, "known from the baseline")
        covering = [entry for entry in self.policy.exemptions if entry.covers(checkpoint, finding)]
        current = next((entry for entry in covering if entry.until is None or self.today <= entry.until), None)
        if current is not None:
            return _accepted(finding, f"ignored by {self.policy.name}: {current.reason}")
        if covering:
            finding = _annotated(finding, f"ignored by {self.policy.name} until {covering[0].until}, no longer")
        severity = self.policy.severities.get(finding.rule_id, finding.severity)
        if severity == finding.severity:
            return finding
        said = f"{severity.label} by {self.policy.name}, {finding.severity.label} otherwise"
        return replace(_annotated(finding, said), severity=severity)


def _accepted(finding: Finding, why: str) -> Finding:
    said = _annotated(finding, f"{why}; {finding.severity.label} otherwise")
    return replace(said, severity=Severity.INFO, accepted=why, not_analysed=False)


def _annotated(finding: Finding, said: str) -> Finding:
    """The finding with a remark in brackets behind its message."""
    return replace(finding, message=f"{finding.message.rstrip('.')} ({said})")


def _known(path: Path) -> Iterator[tuple[str, str, str]]:
    """The findings of a JSON report that ``check``, ``diagnose`` or ``hunt`` wrote."""
    try:
        if path.stat().st_size > _MAX_BASELINE_BYTES:
            raise ValueError("it is too large for a report")
        report = json.loads(path.read_text(encoding="utf-8"))
        found = list(_findings(report))
    except OSError as error:
        raise UsageError(f"--baseline {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"--baseline {path} is no JSON report of check, diagnose or hunt; `--format json=FILE` writes one"
        ) from error
    yield from found


def _findings(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    subjects = report.get("checkpoints") or report.get("adapters") or [{**report, "path": report["model"]}]
    for subject in subjects:
        for finding in subject["findings"]:
            yield subject["path"], finding["rule_id"], finding.get("location") or ""
