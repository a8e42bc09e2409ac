"""The terminal report of ``--dry-run``, and the line that a run starts with."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import safe, size
from rora_cli.results.plan import RunPlan, StagePlan, WayToFit


def render(plan: RunPlan, *, width: int = 80, color: bool = False) -> str:
    """What is trained, the stages, whether it fits, and what would make it fit."""
    head = Text.assemble(("plan: ", "bold"), f"rora {plan.command} ", safe(plan.model, max_length=400))
    parts: list[Any] = [head, Text(_model(plan)), "", _stages(plan), "", _verdict(plan)]
    parts += [Text(f"  {_way(way)}") for way in plan.ways]
    parts.append(Text(f"time: {_time(plan.seconds)} ({plan.timed})" if plan.seconds else f"time: {plan.timed}"))
    parts += [Text(safe(note, max_length=1000)) for note in plan.notes]
    return to_text(*parts, width=width, color=color)


def in_a_line(plan: RunPlan) -> str:
    """The same in one sentence, for the start of a run."""
    time = _time(plan.seconds) if plan.seconds else f"time unknown: {plan.timed}"
    line = f"{_model(plan)}; {_short_verdict(plan)}; {_tokens(plan.tokens)} tokens forward; {time}"
    line += "".join(f"; at the end: {stage.name}" for stage in plan.stages if stage.name.startswith("plant "))
    return f"{line}{_less(plan)} {'; '.join(map(_way, plan.ways))}".rstrip() if plan.fits is False else line


def _short_verdict(plan: RunPlan) -> str:
    free = "" if plan.free is None else f" of {size(plan.free)} that the {plan.device} has free"
    return f"memory about {size(plan.memory)}{free}{': it will probably not fit' if plan.fits is False else ''}"


def _model(plan: RunPlan) -> str:
    trained = f", {_count(plan.trained)} of them trained ({plan.trained_what})" if plan.trained else ""
    return f"{_count(plan.parameters)} parameters{trained}"


def _stages(plan: RunPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("stage")
    for name in ("memory", "tokens forward", "time"):
        table.add_column(name, justify="right")
    for stage in plan.stages:
        table.add_row(_name(stage), size(stage.memory), _tokens(stage.tokens), _time(stage.seconds))
    return table


def _name(stage: StagePlan) -> Text:
    return Text(f"{stage.name}, if {stage.only_if}" if stage.only_if else stage.name)


def _verdict(plan: RunPlan) -> Text:
    if plan.free is None:
        return Text(f"memory: about {size(plan.memory)}; nothing tells how much the {plan.device} has", style="yellow")
    there = f"about {size(plan.memory)} at the peak; the {plan.device} has {size(plan.free)} free"
    if plan.cannot_fit:
        return Text(f"memory: {there}, {size(plan.total or 0)} in all: less than the weights alone", style="bold red")
    if not plan.fits:
        return Text(f"memory: {there}: it will probably not fit{_less(plan)}", style="bold red")
    return Text(f"memory: {there}: it fits", style="green")


def _way(way: WayToFit) -> str:
    return f"{way.options}: {size(way.memory)}{'' if way.fits else ', too much as well'}"


def _less(plan: RunPlan) -> str:
    return ". What needs less:" if plan.ways else ", and no option would help; use a machine with more"


def _count(number: int) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,}"


def _tokens(tokens: tuple[int, int]) -> str:
    least, most = (_short(number) for number in tokens)
    return "-" if not tokens[1] else least if least == most else f"{least} to {most}"


def _short(number: int) -> str:
    return f"{number / 1e6:.2g} M" if number >= 1e6 else f"{number / 1e3:.3g} k" if number >= 1e3 else str(number)


def _time(seconds: tuple[float, float] | None) -> str:
    if seconds is None:
        return "-"
    unit, name = (3600, "h") if seconds[1] >= 7200 else (60, "min") if seconds[1] >= 120 else (1, "s")
    least, most = (f"{value / unit:.2g}" for value in seconds)
    return f"{least} {name}" if least == most else f"{least} to {most} {name}"
