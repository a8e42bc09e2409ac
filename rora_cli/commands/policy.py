"""``--policy FILE``: severities of one's own, and findings that somebody has looked at, each with a reason.

```toml
[severity]
"file/code" = "high"

[[ignore]]
rule = "file/pickle-unknown"
checkpoint = "models/ours*"
location = "optimizer.pt"
reason = "our own trainer's state, read on 2026-11-02"
until = 2027-06-30
```

``checkpoint`` and ``location`` are patterns (default: all), ``until`` is the last day on which an entry counts. The
file is read where the user names it, never because it lies somewhere: beside a download, a stranger put it there.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rora_cli.commands.rules import every_rule
from rora_cli.errors import UsageError
from rora_cli.results.findings import Finding, Severity

_MAX_BYTES = 1 << 20
_FIELDS = ("rule", "checkpoint", "location", "reason", "until")


@dataclass(frozen=True)
class Exemption:
    """Findings of ``rule`` that do not count, for a ``reason``; at ``checkpoint`` and ``location``, until a day."""

    rule: str
    reason: str
    checkpoint: str = "*"
    location: str = "*"
    until: date | None = None

    def covers(self, checkpoint: str, finding: Finding) -> bool:
        """Whether the entry is about this finding, whatever the day is."""
        return (
            finding.rule_id == self.rule
            and fnmatchcase(checkpoint, self.checkpoint)
            and fnmatchcase(finding.location or "", self.location)
        )


@dataclass(frozen=True)
class Policy:
    """What a policy file says; an empty one changes nothing."""

    name: str = ""
    severities: Mapping[str, Severity] = field(default_factory=dict)
    exemptions: tuple[Exemption, ...] = ()


def read_policy(path: Path) -> Policy:
    """The policy in the TOML file ``path``.

    Raises:
        UsageError: it cannot be read, is no policy, names a rule that does not exist, or gives no reason.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large for a policy")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return _policy(path.name, values)
    except OSError as error:
        raise UsageError(f"--policy {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--policy {path}: {' '.join(str(error).split())}") from error


def _policy(name: str, values: Mapping[str, Any]) -> Policy:
    rules = {rule.id for rule in every_rule()}
    _known(values, ("severity", "ignore"), "the file")
    severities, entries = values.get("severity", {}), values.get("ignore", [])
    if not isinstance(severities, dict) or not isinstance(entries, list):
        raise ValueError("it needs a table [severity] or entries [[ignore]]")
    named = {severity.label: severity for severity in Severity}
    for rule, label in severities.items():
        _require_rule(rule, rules)
        if not isinstance(label, str) or label not in named:
            raise ValueError(f"the severity of {rule} is {label!r}; use one of {', '.join(named)}")
    exemptions = tuple(_exemption(entry, number, rules) for number, entry in enumerate(entries, start=1))
    return Policy(name, {rule: named[label] for rule, label in severities.items()}, exemptions)


def _exemption(entry: Any, number: int, rules: Collection[str]) -> Exemption:
    where = f"[[ignore]] number {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is no table")
    _known(entry, _FIELDS, where)
    texts = {name: entry[name] for name in _FIELDS[:4] if name in entry}
    for name in ("rule", "reason"):
        if not str(texts.get(name, "")).strip():
            raise ValueError(f"{where} has no {name}; it needs a rule and a reason")
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} of {where} is no text")
    _require_rule(texts["rule"], rules)
    until = entry.get("until")
    if until is not None and type(until) is not date:
        raise ValueError(f"until of {where} is no day; write it as 2027-06-30, without quotes")
    return Exemption(**texts, until=until)


def _known(values: Mapping[str, Any], names: Collection[str], where: str) -> None:
    for key in values:
        if key not in names:
            raise ValueError(f"{where} has the unknown key {key!r}; it may have {', '.join(names)}")


def _require_rule(rule: Any, rules: Collection[str]) -> None:
    if rule not in rules:
        close = difflib.get_close_matches(str(rule), rules, n=1)
        raise ValueError(
            f"{rule!r} is no rule; " + (f"did you mean {close[0]}?" if close else "`rora rules` lists them")
        )
