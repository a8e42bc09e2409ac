"""``rora rescale`` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.terminal import to_text
from rora_cli.reports.terminal.diagnose import short_name
from rora_cli.reports.text import count, number, percent, proportion, safe
from rora_cli.results.rescale import RescaledModule, RescaleResult

if TYPE_CHECKING:
    from rich.table import Table


def render(result: RescaleResult, *, width: int = 80, color: bool = False) -> str:
    """The modules with their factors, the post-condition, and the modules that were left alone."""
    from rich.padding import Padding
    from rich.text import Text

    return to_text(
        Text("\n".join(_heading(result))),
        "",
        _table(result, width),
        "",
        *(Text(line) for line in _outcome(result)),
        *(Padding(Text(f"note: {safe(note, max_length=400)}", style="dim"), (0, 0, 0, 0)) for note in result.notes),
        Text(f"wrote {safe(result.output)}", style="bold"),
        width=width,
        color=color,
    )


def _heading(result: RescaleResult) -> list[str]:
    lines = [f"adapter  {safe(result.adapter)}"]
    lines += [f"base     {safe(result.base)}"] if result.base else []
    scaled = sum(not m.is_unchanged for m in result.modules)
    return [
        *lines,
        f"layers   {safe(result.layers)}: {count(result.modules, 'module')}, {scaled} scaled via {result.via}; "
        f"{len(result.left_alone)} outside left alone",
    ]


def _table(result: RescaleResult, width: int) -> Table:
    from rich.table import Table

    with_base = any(m.sigma_base is not None for m in result.modules)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("module", no_wrap=True)
    columns = ["factor", "σ₁(sBA)", "after", *(["σ₁(W)", "after/W"] if with_base else []), "error"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for m in result.modules:
        base = [number(m.sigma_base), number(m.strength_after)] if with_base else []
        row = [_factor(m), number(m.sigma_before), number(m.sigma_after), *base, f"{m.relative_error:.0e}"]
        table.add_row(short_name(m.name, max(width - 50, 20)), *row)
    return table


def _factor(m: RescaledModule) -> str:
    return "1" if m.is_unchanged else number(m.factor) + ("*" if m.is_capped else "")


def _outcome(result: RescaleResult) -> Iterator[str]:
    yield (
        f"post-condition: sigma_max(s B A) is factor times what it was, measured on the tensors as written; "
        f"largest relative error {result.largest_error:.1e}"
    )
    capped = [m for m in result.modules if m.is_capped]
    if capped:
        largest = max(m.asked_factor for m in capped)
        yield f"* {count(capped, 'module')} below the factor asked for (up to {number(largest)})"
    if all(m.is_unchanged for m in result.modules):
        yield "nothing to do: every factor is 1 within rounding, and the tensors are as they were"
    before, after = result.accuracy_before, result.accuracy_after
    if before is not None and after is not None:
        yield f"clean accuracy before  {proportion(before.overall)}"
        yield f"clean accuracy after   {proportion(after.overall)}"
        for name, share in after.per_class.items():
            yield f"  {safe(name, max_length=30)}: {percent(before.per_class[name].value)} -> {proportion(share)}"
        tries = count(result.attempts, "try", "tries")
        yield f"strength kept: {number(result.strength)} of the factors asked for, {tries}"
    if result.kept_whole:
        shown = ", ".join(safe(name, max_length=60) for name in result.kept_whole[:3])
        more = f" and {len(result.kept_whole) - 3} more" if len(result.kept_whole) > 3 else ""
        yield f"untouched: {count(result.kept_whole, 'tensor')} that the adapter carries whole ({shown}{more})"
