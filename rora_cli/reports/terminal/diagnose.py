"""``rora diagnose`` for a terminal: a summary that fits one screen, then the modules, the strongest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import count, number, percent, safe
from rora_cli.results.diagnose import DiagnoseResult, Diagnosis, GroupSummary
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.margins import Margins
from rora_cli.results.spectra import Band, ModuleSpectrum

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLES = {"high": "bold red", "medium": "yellow", "low": "cyan", "info": "dim"}
_SHOWN = 12
#: Lines for findings, so that everything before the table of modules fits into 24 lines.
_FINDING_LINES = 7
#: Lines for findings and kinds of modules together.
_SUMMARY_LINES = 10


def render(result: DiagnoseResult, *, width: int = 80, color: bool = False, detail: bool = False) -> str:
    """The report; ``detail`` shows every module, every finding, and every tensor that was not measured."""
    from rich.text import Text

    conclusion = Text(result.conclusion, style="bold")
    parts: list[object] = []
    if len(result.adapters) > 1:
        parts += [_batch_table(result.adapters, width), "", Text(_counts(result.adapters))]
        unread = [d for d in result.adapters if d.error is not None]
        parts += [] if detail else [_not_read(d) for d in unread[:_SHOWN]]
        parts += [] if detail else _batch_findings(result.adapters, width)
        parts += [conclusion, ""]
    if len(result.adapters) == 1 or detail:
        for diagnosis in result.adapters:
            parts += _summary(diagnosis, result.base, width, detail)
            parts += [conclusion, ""] if len(result.adapters) == 1 else []
            parts += _modules(diagnosis, result, width, detail)
    if result.margins is not None:
        parts += _margins(result.margins, width)
    return to_text(*parts[: -1 if parts[-1] == "" else None], width=width, color=color)  # type: ignore[arg-type]


def _not_read(diagnosis: Diagnosis) -> Text:
    from rich.text import Text

    return Text(f"{safe(diagnosis.path)}: {safe(diagnosis.error, max_length=1000)}", style="bold red")


def _batch_findings(diagnoses: Sequence[Diagnosis], width: int) -> list[object]:
    """The findings about those of a batch that have more than information, the worst first."""
    from rich.text import Text

    found = [(d, [f for f in d.findings if f.severity > Severity.INFO]) for d in diagnoses]
    found = sorted((pair for pair in found if pair[1]), key=lambda pair: -max(f.severity for f in pair[1]))
    parts: list[object] = [""]
    for diagnosis, findings in found[:_SHOWN]:
        parts += [Text(safe(diagnosis.path), style="bold"), *_rules(findings, width), ""]
    if len(found) > _SHOWN:
        parts += [Text(f"and findings in {len(found) - _SHOWN} more: --detail shows them", style="dim"), ""]
    return parts


def _counts(diagnoses: Sequence[Diagnosis]) -> str:
    """How many of a batch have a finding of each severity as their worst."""
    worst = Counter("not read" if d.error else d.worst.label if d.worst is not None else "none" for d in diagnoses)
    levels = ("not read", "high", "medium", "low", "info", "none")
    shown = ", ".join(f"{worst[level]:,} {level}" for level in levels if worst[level])
    return f"{count(diagnoses, 'adapter')}, by the worst finding: {shown}"


def _summary(diagnosis: Diagnosis, base: str | None, width: int, detail: bool) -> list[object]:
    from rich.text import Text

    if diagnosis.error is not None:
        return [_not_read(diagnosis), ""]
    findings = _findings(diagnosis.findings) if detail else _rules(diagnosis.findings, width)
    parts: list[object] = [Text("\n".join(heading(diagnosis, base))), "", *findings, ""]
    if diagnosis.groups:
        at_most = len(diagnosis.groups) if detail else max(_SUMMARY_LINES - _height(findings, width), 3)
        parts += [_group_table("kind", diagnosis.groups, at_most), ""]
    if diagnosis.blocks and detail:
        parts += [_group_table("block", diagnosis.blocks, len(diagnosis.blocks)), ""]
    return parts


def _modules(diagnosis: Diagnosis, result: DiagnoseResult, width: int, detail: bool) -> list[object]:
    from rich.text import Text

    parts: list[object] = []
    if diagnosis.modules:
        shown = ranked(diagnosis.modules)
        rest = 0 if detail else max(len(shown) - _SHOWN, 0)
        parts.append(_module_table(shown if detail else shown[:_SHOWN], width))
        parts += [Text(f"and {count(rest, 'more module')}: --detail shows them", style="dim")] if rest else []
        parts += [Text(legend(diagnosis, result.top_k), style="dim"), ""]
    if detail:
        parts += _tensors("set aside", diagnosis.set_aside) + _tensors("not analysed", diagnosis.unmeasured)
    return parts


def heading(diagnosis: Diagnosis, base: str | None) -> list[str]:
    """Lines that name the path and its format, and say how much was analysed."""
    lines = [f"adapter   {safe(diagnosis.path)} ({safe(diagnosis.format)})"]
    lines += [f"base      {safe(base)}"] if base else []
    coverage = diagnosis.coverage
    if coverage is not None:
        lines.append(
            f"coverage  {coverage.measured} of {count(coverage.tensors, 'tensor')} measured in "
            f"{count(coverage.modules, 'module')}, {coverage.aside} set aside, {coverage.unmeasured} not analysed"
        )
    if diagnosis.spread_of_norms is not None:
        lines.append(
            f"spread    {number(diagnosis.spread_of_norms)} (std / mean of size-normalised norms over modules)"
        )
    return lines


def ranked(modules: Sequence[ModuleSpectrum]) -> list[ModuleSpectrum]:
    """The modules by strength against W if there is a base, else by size-normalised norm; the largest first."""
    return sorted(modules, key=lambda m: (-(m.strength_ratio or 0.0), -(m.size_normalised_norm or 0.0), m.name))


def short_name(name: str, limit: int) -> str:
    """A module's path, cut in its middle, because its block and its last part matter most."""
    shown = safe(name)
    if len(shown) <= limit:
        return shown
    tail = limit * 2 // 3
    return f"{shown[: limit - tail - 1]}…{shown[-tail:]}"


def from_block(name: str) -> str:
    """A module's path from the number of its block on, if it has one: the part before is the same for all."""
    parts = name.split(".")
    start = next((i for i, part in enumerate(parts) if part.isascii() and part.isdigit()), 0)
    return ".".join(parts[start:])


def _module_table(modules: Sequence[ModuleSpectrum], width: int) -> Table:
    from rich.table import Table

    with_base = any(m.base_sigma_max is not None for m in modules)
    columns = ["rank", "σ₁", "‖ΔW‖F", "eff.r"] + (["σ₁/σ₁(W)", "L_k", "R_k"] if with_base else ["σ₁/Σσ", "z"])
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("module", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for m in modules:
        own = [str(m.rank), number(m.sigma_max), number(m.frobenius_norm), number(m.effective_rank)]
        if with_base:
            own.append(number(m.strength_ratio))
            own += [_marked(m.alignment_left, m.null_left), _marked(m.alignment_right, m.null_right)]
        else:
            own += [number(m.energy_share), "-" if m.norm_z_score is None else f"{m.norm_z_score:+.1f}"]
        table.add_row(short_name(from_block(m.name), max(width - 50, 24)), *own)
    return table


def _marked(value: float | None, band: Band | None) -> str:
    """A multiple of chance, with a star if it is outside of the 95 % band of random updates."""
    outside = value is not None and band is not None and not band.holds(value)
    return number(value) + ("*" if outside else " ")


def _group_table(what: str, groups: Sequence[GroupSummary], at_most: int) -> Table:
    from rich.table import Table

    with_base = any(g.median_strength_ratio is not None for g in groups)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(what, no_wrap=True)
    columns = ["modules", "median σ₁", "max σ₁", "rms entry", "spread"] + (["median σ₁/σ₁(W)"] if with_base else [])
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    shown = groups if len(groups) <= at_most else groups[: at_most - 1]
    for g in shown:
        row = [number(g.median_sigma_max), number(g.largest_sigma_max), number(g.median_norm), number(g.spread)]
        row += [number(g.median_strength_ratio)] if with_base else []
        table.add_row(short_name(g.name, 20), str(g.modules), *row)
    if len(shown) < len(groups):
        table.add_row(f"and {count(len(groups) - len(shown), f'more {what}')}", style="dim")
    return table


def legend(diagnosis: Diagnosis, k: int) -> str:
    """The meaning of the columns that the table has."""
    if any(m.base_sigma_max is not None for m in diagnosis.modules):
        return (
            f"L_k, R_k: share of ‖ΔW‖F² in W's top {k} left/right singular directions, as a multiple of chance; "
            "* outside the 95 % band of random updates. σ₁/σ₁(W): strength; equation 12 divides by it."
        )
    return (
        "σ₁/Σσ: energy share of the first direction; z: robust z-score of log ‖ΔW‖F/√size in its kind. "
        "With --base: strength against W, and alignment with it."
    )


def _findings(findings: Sequence[Finding]) -> list[Text]:
    from rich.text import Text

    return [_line(f, f.message) for f in findings] or [Text("no findings")]


def _rules(findings: Sequence[Finding], width: int) -> list[Text]:
    """One or two lines for each rule with findings, the most severe first."""
    from rich.text import Text

    if not findings:
        return [Text("no findings")]
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule_id, []).append(finding)
    lines: list[Text] = []
    for found in by_rule.values():
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        line = _line(found[0], safe(found[0].message, max_length=3 * (width - 20)) + more)
        if lines and _height([*lines, line], width) > _FINDING_LINES:
            break
        lines.append(line)
    if len(by_rule) > len(lines):
        lines.append(Text(f"and {count(len(by_rule) - len(lines), 'more rule')}: --detail shows all", style="dim"))
    return lines


def _height(lines: Sequence[Text], width: int) -> int:
    """How many lines of the terminal the texts take; wrapping wastes a little of each line."""
    return sum(-(-len(line.plain) // (width - 6)) for line in lines)


def _line(finding: Finding, message: str) -> Text:
    from rich.text import Text

    line = Text(f"{finding.severity.label:<6} ", style=_STYLES[finding.severity.label])
    line.append(f"{finding.rule_id}: ", style="bold")
    return line.append(safe(message, max_length=400), style="not bold default")


def _tensors(title: str, tensors: object) -> list[object]:
    from rich.text import Text

    assert isinstance(tensors, dict)
    if not tensors:
        return []
    lines = [f"  {safe(name)}: {safe(reason, max_length=300)}" for name, reason in tensors.items()]
    return [Text(f"{title} ({len(tensors)})", style="bold"), Text("\n".join(lines)), ""]


def _margins(margins: Margins, width: int) -> list[object]:
    from rich.text import Text

    rows = f"{count(margins.clean_rows, 'clean row')}, {count(margins.triggered_rows, 'triggered row')}"
    drop = f"{number(margins.max_accuracy_drop)} points"
    lines = [f"margins   {rows}; clean accuracy {percent(margins.accuracy_at_one)} at scale 1"]
    if margins.largest_scale is None:
        lines.append(f"scale     no scale above 1 costs more than {drop} of clean accuracy, to first order")
    else:
        lines.append(
            f"scale     below {number(margins.largest_scale)} at most {drop} of clean accuracy is lost, to first order"
        )
    if margins.attack_success:
        at_one = [s.share for s in margins.attack_success if s.scale <= 1][-1]
        best = min(margins.attack_success, key=lambda s: s.share)
        lines.append(
            f"trigger   {safe(margins.trigger)!s} to {safe(margins.target_label)}: {percent(at_one)} at scale 1, least "
            f"{percent(best.share)} from {number(best.scale)} on, to first order"
        )
        empty = sum(bool(m.window_is_empty) for m in margins.modules)
        lines.append(
            f"windows   empty in {empty} of {count(margins.modules, 'module')}: rescaling alone cannot fill them"
        )
    return [Text("\n".join(lines)), "", _margin_table(margins, width), Text(margins.note, style="dim"), ""]


def _margin_table(margins: Margins, width: int) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("module", no_wrap=True)
    columns = ["t", "a_W", "a_ΔW", "t<κ/δ", *(["t>β/γ", "t>nec.", "paper?"] if margins.triggered_rows else [])]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for m in sorted(margins.modules, key=lambda m: -m.strength)[:_SHOWN]:
        row = [m.strength, m.clean_base.median, m.clean_update.median, m.keeps_below]
        row += [m.flips_above, m.needs_above, m.paper_threshold_assumed] if margins.triggered_rows else []
        table.add_row(short_name(from_block(m.name), max(width - 60, 20)), *(number(v) for v in row))
    return table


def _batch_table(diagnoses: Sequence[Diagnosis], width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("path", no_wrap=True)
    for column in ("format", "modules", "max σ₁", "spread", "worst"):
        table.add_column(column, justify="left" if column in ("format", "worst") else "right", no_wrap=True)
    for d in diagnoses:
        path = short_name(d.path, max(width - 42, 20))
        if d.error is not None:
            table.add_row(path, Text("not read", style="bold red"))
            continue
        worst = d.worst.label if d.worst is not None else "-"
        largest = max((m.sigma_max for m in d.modules), default=None)
        state = worst if d.is_complete else f"{worst}, incomplete"
        row = (safe(d.format, max_length=12), str(len(d.modules)), number(largest), number(d.spread_of_norms))
        table.add_row(path, *row, Text(state, style=_STYLES.get(worst, "")))
    return table
