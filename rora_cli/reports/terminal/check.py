"""``rora check`` for a terminal: a block for each checkpoint, the most severe finding first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import count, safe, size
from rora_cli.results.check import CheckedCheckpoint, CheckResult
from rora_cli.results.findings import Finding, Severity

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {Severity.HIGH: "bold red", Severity.MEDIUM: "yellow", Severity.LOW: "cyan", Severity.INFO: "dim"}
#: Smallest length of a command [characters] that gets a line of its own.
_LONG_COMMAND = 60


def render(result: CheckResult, *, width: int = 80, color: bool = False) -> str:
    """The findings of each checkpoint, then the conclusion."""
    from rich.text import Text

    blocks: list[RenderableType] = []
    for checkpoint in result.checkpoints:
        blocks += [*_heading(checkpoint), *finding_lines(checkpoint.findings), Text()]
    return to_text(*blocks, Text(result.conclusion, style="bold"), width=width, color=color)


def finding_lines(findings: tuple[Finding, ...]) -> list[RenderableType]:
    """Findings as renderables, the most severe first: severity, rule, sentence, and advice."""
    from rich.padding import Padding
    from rich.text import Text

    lines: list[RenderableType] = []
    for found in sorted(findings, key=lambda f: -f.severity):
        lines.append(Text(f"  {found.severity.label:<6} {found.rule_id}", style=_STYLES[found.severity]))
        lines.append(Padding(Text(safe(found.message, max_length=400)), (0, 0, 0, 9)))
        if found.advice and found.severity >= Severity.LOW:
            lines += _advice(safe(found.advice, max_length=1000))
    return lines


def _advice(text: str) -> Iterator[RenderableType]:
    """The advice, wrapped; a long command in it gets an unwrapped line of its own, so that users can copy it."""
    from rich.padding import Padding
    from rich.text import Text

    before, tick, rest = text.partition("`")
    command, _, after = rest.partition("`")
    if not tick or len(command) < _LONG_COMMAND:
        yield Padding(Text(f"-> {text}", style="dim"), (0, 0, 0, 9))
        return
    yield Padding(Text(f"-> {before.strip()}", style="dim"), (0, 0, 0, 9))
    yield Text(command, no_wrap=True, overflow="ignore")
    yield Padding(Text(after.strip(), style="dim"), (0, 0, 0, 9))


def _heading(checkpoint: CheckedCheckpoint) -> list[RenderableType]:
    from rich.text import Text

    types = ", ".join(f"{n:,} {dtype}" for dtype, n in checkpoint.dtypes.items())
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in checkpoint.tensors_by_kind.items())
    tensors = f"{count(checkpoint.tensors, 'tensor')} ({size(checkpoint.bytes)})"
    states = Counter(state.partition(",")[0] for state in checkpoint.inventory.values())
    listed = ", ".join(f"{n} {state}" for state, n in states.items()) if len(states) > 1 else ""
    what = f"{checkpoint.role}, {count(checkpoint.files, 'file')}" + (f" ({listed})" if listed else "")
    held = f": {checkpoint.parameters:,} parameters in {tensors}" if checkpoint.role != "file" else ""
    lines: list[RenderableType] = [Text(safe(checkpoint.path), style="bold"), Text(f"  {what}{held}")]
    if checkpoint.tensors:
        lines.append(Text(f"  types: {types}; kinds: {kinds}"))
        lines.append(Text(f"  values: {'read' if checkpoint.values_read else 'not read (--values reads them)'}"))
    if checkpoint.unreadable:
        shown = ", ".join(safe(name, max_length=60) for name in checkpoint.unreadable[:5])
        lines.append(Text(f"  NOT ANALYSED: {shown}", style="bold red"))
    if not checkpoint.loadable:
        lines.append(Text("  rora's other commands would refuse it", style="red"))
    return lines
