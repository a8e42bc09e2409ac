"""Markdown for the job summary of a CI system: findings, and the strongest modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rora_cli.reports.subjects import Findable, Subject, rules, subjects
from rora_cli.reports.terminal.diagnose import ranked
from rora_cli.reports.terminal.power import COLUMNS, remarks, rows
from rora_cli.reports.text import count, markdown, number
from rora_cli.results.diagnose import DiagnoseResult
from rora_cli.results.hunt import HuntResult
from rora_cli.results.power import Power

_MODULES = 10


def render(result: Findable) -> str:
    """GitHub-flavoured Markdown. Names from the checkpoint are escaped, so that none becomes a link or markup."""
    lines = [f"## rora {result.provenance.command}", ""]
    conclusion = "" if isinstance(result, HuntResult) else result.conclusion
    if conclusion:
        lines += [f"**{conclusion}**", ""]
    for subject in subjects(result):
        lines += [*_subject(subject), ""]
    if isinstance(result, HuntResult) and result.power is not None:
        lines += [*_power(result.power, result.power_sentence or ""), ""]
    for diagnosis in result.adapters if isinstance(result, DiagnoseResult) else ():
        if diagnosis.modules:
            lines += [*_modules(diagnosis.modules), ""]
    meanings = rules(result)
    if meanings:
        lines += ["<details><summary>What the rules mean</summary>", ""]
        lines += [f"- `{rule}`: {markdown(meaning)}" for rule, meaning in meanings.items()]
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def _subject(subject: Subject) -> Iterator[str]:
    yield f"### {markdown(subject.path)}"
    yield ""
    if not subject.findings and not subject.problems:
        yield "No findings."
        return
    if subject.problems:
        yield f"{count(len(subject.problems), 'thing')} could not be analysed: the result is inconclusive."
        yield ""
    yield "| severity | rule | finding |"
    yield "|---|---|---|"
    for finding in sorted(subject.findings, key=lambda finding: -finding.severity):
        yield f"| {finding.severity.label} | `{finding.rule_id}` | {markdown(finding.message)} |"
    for what, why in list(subject.problems.items())[:_MODULES]:
        yield f"| error | not analysed | {markdown(what)}: {markdown(why)} |"


def _power(power: Power, sentence: str) -> Iterator[str]:
    yield f"**{markdown(sentence)}**"
    yield ""
    for line in remarks(power):
        yield f"- {markdown(line)}"
    if not power.stand_ins:
        return
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|--:|---|---|---|--:|--:|---|"
    for _, cells in rows(power):
        yield f"| {' | '.join(map(markdown, cells))} |"


def _modules(modules: Any) -> Iterator[str]:
    shown = ranked(modules)[:_MODULES]
    yield f"<details><summary>The {len(shown)} strongest of {count(len(modules), 'module')}</summary>"
    yield ""
    yield "| module | rank | σ₁ | ‖ΔW‖F | σ₁/σ₁(W) | L_k | R_k |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for m in shown:
        values = (m.sigma_max, m.frobenius_norm, m.strength_ratio, m.alignment_left, m.alignment_right)
        yield f"| {markdown(m.name)} | {m.rank} | {' | '.join(number(v) for v in values)} |"
    yield ""
    yield "</details>"
