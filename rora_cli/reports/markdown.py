"""Markdown for a job summary: findings, and the modules that matter most."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rora_cli.reports.subjects import Subject, rules, subjects
from rora_cli.reports.terminal.diagnose import ranked
from rora_cli.reports.text import count, number, safe

_MODULES = 10


def render(result: Any) -> str:
    """GitHub-flavoured Markdown; names from the checkpoint are escaped, so that none becomes a link or markup."""
    lines = [f"## rora {result.provenance.command}", ""]
    if conclusion := getattr(result, "conclusion", None):
        lines += [f"**{conclusion}**", ""]
    for subject in subjects(result):
        lines += [*_subject(subject), ""]
    for diagnosis in getattr(result, "adapters", ()):
        if diagnosis.modules:
            lines += [*_modules(diagnosis.modules), ""]
    meanings = rules(result)
    if meanings:
        lines += ["<details><summary>What the rules mean</summary>", ""]
        lines += [f"- `{rule}`: {escape(meaning)}" for rule, meaning in meanings.items()]
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def escape(text: object) -> str:
    """Text that Markdown and the HTML inside of it take literally."""
    shown = safe(text, max_length=1000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~@])", r"\\\1", shown)


def _subject(subject: Subject) -> Iterator[str]:
    yield f"### {escape(subject.path)}"
    yield ""
    if not subject.findings and not subject.problems:
        yield "No findings."
        return
    if subject.problems:
        yield f"{count(len(subject.problems), 'thing')} could not be analysed: the result is inconclusive."
        yield ""
    yield "| severity | rule | finding |"
    yield "|---|---|---|"
    for finding in subject.findings:
        yield f"| {finding.severity.label} | `{finding.rule_id}` | {escape(finding.message)} |"
    for what, why in list(subject.problems.items())[:_MODULES]:
        yield f"| error | not analysed | {escape(what)}: {escape(why)} |"


def _modules(modules: Any) -> Iterator[str]:
    shown = ranked(modules)[:_MODULES]
    yield f"<details><summary>The {len(shown)} strongest of {count(len(modules), 'module')}</summary>"
    yield ""
    yield "| module | rank | σ₁ | ‖ΔW‖F | σ₁/σ₁(W) | L_k | R_k |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for m in shown:
        values = (m.sigma_max, m.frobenius_norm, m.strength_ratio, m.alignment_left, m.alignment_right)
        yield f"| {escape(m.name)} | {m.rank} | {' | '.join(number(v) for v in values)} |"
    yield ""
    yield "</details>"
