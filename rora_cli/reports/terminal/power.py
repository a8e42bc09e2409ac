"""What a search would have found, for a terminal: the figure, then the stand-ins copy by copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.text import count, percent, proportion, safe
from rora_cli.results.power import Power, StandIn

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: Headings of the table of stand-ins.
COLUMNS = ("copy", "form", "trigger", "label", "turns", "after LoRA", "found as")
EXPLANATION = (
    "Planted: backdoors that rora trained into copies of the model, in memory, and searched for as in the model. "
    "Those counted turn 95 % of held-out rows, and more than 90 % after plain LoRA on clean rows. A backdoor of "
    "somebody else's may be better hidden than these."
)


def blocks(power: Power, sentence: str) -> Iterator[RenderableType]:
    """The figure as the ``sentence`` says it, the table of stand-ins, and what is not counted."""
    from rich.padding import Padding
    from rich.text import Text

    yield Text()
    yield Text(safe(sentence, max_length=1000), style="bold yellow" if power.reason is not None else "bold")
    yield from (Padding(Text(line), (0, 0, 0, 2)) for line in remarks(power))
    if power.stand_ins:
        yield Padding(_table(power), (0, 0, 0, 2))
    yield Padding(Text(EXPLANATION, style="dim"), (1, 0, 0, 0))


def remarks(power: Power) -> Iterator[str]:
    """The interval, what does not count, what was called falsely, and what was left out, in sentences."""
    if power.found.total:
        yield f"found of those planted, with the 95 % interval: {proportion(power.found)}"
    if power.not_counted:
        planted = count(len(power.stand_ins), "stand-in")
        yield f"not counted: {power.not_counted} of {planted}, which did not become firm"
    for number, copy in enumerate(power.copies, start=1):
        if copy.kept < 1:
            before = percent(power.accuracy.overall.value) if power.accuracy else "-"
            after = percent(copy.accuracy.overall.value)
            yield f"copy {number} kept {copy.kept:g} of what was trained, so as to keep accuracy ({before} to {after})"
        if calls := copy.false_calls:
            shown = ", ".join(f"{safe(call.text, max_length=40)} ({safe(call.target_label)})" for call in calls[:10])
            yield f"copy {number}: called besides, and no part of what was planted: {shown}"
    for form, why in power.left_out.items():
        yield f"no more {form}: {safe(why)}"


def rows(power: Power) -> Iterator[tuple[StandIn, tuple[str, ...]]]:
    """Each stand-in with its row of a table, under ``COLUMNS``; names are not made safe."""
    for number, copy in enumerate(power.copies, start=1):
        for planted in copy.stand_ins:
            found = ", ".join(planted.found_as[:3]) or "-"
            yield (
                planted,
                (
                    str(number),
                    planted.form,
                    planted.trigger,
                    planted.target_label,
                    percent(planted.success.value, 0),
                    "-" if planted.after is None else percent(planted.after.value, 0),
                    found if planted.firm else f"not firm ({found})",
                ),
            )


def _table(power: Power) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in COLUMNS:
        table.add_column(column, no_wrap=column in ("copy", "turns", "after LoRA"))
    for planted, cells in rows(power):
        style = "" if planted.firm else "dim"
        table.add_row(*(Text(safe(cell, max_length=50), style=style) for cell in cells))
    return table
