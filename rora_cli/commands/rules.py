"""``rora rules``: every rule that a finding can name, with what it means and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from rora_cli.errors import UsageError
from rora_cli.options import Option, Options
from rora_cli.progress import SILENT, Progress
from rora_cli.results.provenance import Provenance, library_versions
from rora_cli.results.rules import SCHEMA_VERSION, RulesResult, RuleText


@dataclass(frozen=True, kw_only=True)
class RulesConfig(Options):
    """Which rules to show."""

    rules: Annotated[
        tuple[str, ...],
        Option("Rules, or areas such as file or spectral.", metavar="RULE", argument=True, shown="all"),
    ] = ()


def run(config: RulesConfig, progress: Progress = SILENT) -> RulesResult:
    """The rules that are asked for, in order. Raises UsageError for one that does not exist."""
    known = list(every_rule())
    names = [rule.id for rule in known] + sorted({rule.id.partition("/")[0] for rule in known})
    for name in config.rules:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean {close[0]}?" if close else "`rora rules` lists them"
            raise UsageError(f"there is no rule {name!r}; {advice}")
    chosen = [r for r in known if not config.rules or {r.id, r.id.partition("/")[0]} & set(config.rules)]
    provenance = Provenance("rules", library_versions(), {"rules": list(config.rules)})
    return RulesResult(SCHEMA_VERSION, provenance, tuple(chosen))


def every_rule() -> Iterator[RuleText]:
    """Preflight's rules, those of ``diagnose``, and those of ``hunt``."""
    from rora_cli.checkpoints.rules import RULES as STRUCTURAL
    from rora_cli.commands.spectral_rules import RULES as SPECTRAL
    from rora_cli.hunting.findings import RULES as HUNT

    for name, rule in STRUCTURAL.items():
        reported = "not analysed" if rule.unreadable else rule.severity.label
        yield RuleText(name, reported, rule.meaning, rule.advice or "", rule.blocking)
    for name, meaning in {**SPECTRAL, **HUNT}.items():
        yield RuleText(name, "by what was measured", meaning)
