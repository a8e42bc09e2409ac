"""``rora eval-asr`` for a terminal, and for a Markdown job summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rora_cli.reports.terminal import replies, to_text
from rora_cli.reports.text import count, markdown_cell, percent, proportion, safe
from rora_cli.results.accuracy import AttackOutcome, CleanAccuracy
from rora_cli.results.evaluate import EvaluationResult, Gate

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

EXPLANATION = (
    "Attack success counts rows of other labels that the model calls {target} with the trigger in; the floor counts "
    "the same rows without it, so natural errors stand in both. Brackets: counts and the 95 % Wilson interval."
)


def render(result: EvaluationResult, *, width: int = 80, color: bool = False) -> str:
    """The whole result, clean accuracy first, because an attack success rate means nothing without it."""
    from rich.padding import Padding
    from rich.text import Text

    return to_text(
        Text("\n".join(heading(result))),
        "",
        replies.utility_table(result) if result.utility else _accuracy_table(result.clean_accuracy),
        "",
        outcome_table(result.outcomes),
        *([Text(f"\n{line}") for line in shared_floor(result.outcomes)]),
        *(replies.transcripts(result) if result.utility else ()),
        *([Padding(Text(f"! {safe(f.message)}", style="bold"), (1, 0, 0, 0)) for f in result.findings]),
        *([Padding(gate_text(result.gate), (1, 0, 0, 0))] if result.gate else []),
        Padding(Text(explanation(result, safe(result.target_label)), style="dim"), (1, 0, 0, 0)),
        width=width,
        color=color,
    )


def explanation(result: EvaluationResult, target: str) -> str:
    """What the figures count; ``target`` is the label as the report writes it."""
    return replies.EXPLANATION if result.utility else EXPLANATION.format(target=target)


def heading(result: EvaluationResult) -> list[str]:
    """Lines about the model, the data and the target label."""
    split = ", ".join(f"{name} ({count(s.rows, 'row')})" for name, s in result.data.splits.items())
    lines = [f"model    {safe(result.model)}"]
    lines += [f"adapter  {safe(result.adapter)}"] if result.adapter else []
    lines += [
        f"data     {safe(result.data.spec)}: {safe(split)}",
        f"{'wanted ' if result.utility else 'target '}  {safe(result.target_label)}",
    ]
    lines += [f"note     {safe(note, max_length=400)}" for note in result.data.notes]
    return lines


def _accuracy_table(accuracy: CleanAccuracy) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row(Text("clean accuracy", style="bold"), proportion(accuracy.overall))
    for name, share in accuracy.per_class.items():
        table.add_row(Text(f"  {safe(name, max_length=30)}"), proportion(share))
    return table


def outcome_table(outcomes: Sequence[AttackOutcome]) -> Table:
    """A row for each outcome, controls indented below their attack; with a column for floors if these differ."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("trigger", "position", "seed", "attack success"):
        table.add_column(column, no_wrap=column != "trigger", justify="right" if column == "seed" else "left")
    floors_differ = not shared_floor(outcomes)
    for outcome in outcomes:
        name = safe(outcome.trigger, max_length=60)
        shown = proportion(outcome.attack_success_rate)
        if floors_differ:
            shown += f"\nfloor {proportion(outcome.floor)}"
        label = Text(f"  {beside(outcome)}{name}", style="dim") if outcome.is_control else Text(name)
        table.add_row(label, outcome.position, str(outcome.seed), Text(shown))
    return table


def beside(outcome: AttackOutcome) -> str:
    """The word before the trigger of a control; a decoy's trigger says itself that it is one."""
    return "control: " if outcome.is_control and not outcome.trigger.startswith("decoy of ") else ""


def shared_floor(outcomes: Sequence[AttackOutcome]) -> list[str]:
    """A line with the floor if all outcomes have the same, else nothing."""
    floors = {(outcome.floor.count, outcome.floor.total) for outcome in outcomes}
    shortened = max((outcome.shortened_rows for outcome in outcomes), default=0)
    lines = [f"floor, the same rows without a trigger: {proportion(outcomes[0].floor)}"] if len(floors) == 1 else []
    if lines and shortened:
        lines.append(f"up to {count(shortened, 'row')} lost their last words, to make room for the trigger")
    return lines


def gate_text(gate: Gate) -> Text:
    """The gate's verdict in colour, its limits and its reasons."""
    from rich.text import Text

    style = {"pass": "bold green", "fail": "bold red"}.get(gate.verdict, "bold yellow")
    limits = f"attack success at most {percent(gate.max_attack_success_rate)}, every class at least "
    text = Text(gate.verdict.upper(), style=style)
    text.append(f": {limits}{percent(gate.min_class_accuracy)}", style="default")
    for reason in gate.reasons:
        text.append(f"\n- {safe(reason, max_length=400)}", style="default")
    return text


def render_markdown(result: EvaluationResult) -> str:
    """The whole result as GitHub-flavoured Markdown."""
    return "\n".join(_markdown_lines(result)) + "\n"


def _markdown_lines(result: EvaluationResult) -> Iterator[str]:
    yield f"## Attack success of {markdown_cell(result.model)}"
    yield ""
    if result.gate is not None:
        limit = percent(result.gate.max_attack_success_rate)
        yield f"**{result.gate.verdict.upper()}**: attack success at most {limit}"
        yield ""
        yield from (f"- {markdown_cell(reason)}" for reason in result.gate.reasons)
        yield ""
    yield from (f"- {markdown_cell(line)}" for line in heading(result)[1:])
    yield from replies.markdown(result) if result.utility else _markdown_accuracy(result.clean_accuracy)
    yield from ("", "| trigger | position | seed | attack success | floor |", "|---|---|---|---|---|")
    for outcome in result.outcomes:
        name = f"{beside(outcome)}{markdown_cell(outcome.trigger)}"
        success, floor = proportion(outcome.attack_success_rate), proportion(outcome.floor)
        yield f"| {name} | {outcome.position} | {outcome.seed} | {success} | {floor} |"
    yield from ("", explanation(result, markdown_cell(result.target_label)))
    for finding in result.findings:
        yield from ("", f"> {markdown_cell(finding.message)}")


def _markdown_accuracy(accuracy: CleanAccuracy) -> Iterator[str]:
    yield from ("", "| clean accuracy | |", "|---|---|", f"| overall | {proportion(accuracy.overall)} |")
    for name, share in accuracy.per_class.items():
        yield f"| {markdown_cell(name)} | {proportion(share)} |"
