"""What became of the triggers of a classifier, and of its weights, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.text import percent, safe
from rora_cli.results.accuracy import Proportion
from rora_cli.results.purify import PurifyResult, TriggerChange

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("trigger", "to", "rows turned before", "after", "by harmless words")


def trigger_rows(triggers: tuple[TriggerChange, ...]) -> Iterator[tuple[str, str, str, str, str]]:
    """Of each trigger what stands under ``HEADINGS``, in words."""
    for one in triggers:
        text = safe(one.text, max_length=40) + (" (named)" if one.named else "")
        before = "not called then" if one.before is None else _share(one.before)
        yield text, safe(one.target_label, max_length=24), before, _share(one.after), percent(one.harmless)


def _share(share: Proportion) -> str:
    return f"{percent(share.value)} ({share.count} of {share.total})"


def trigger_table(triggers: tuple[TriggerChange, ...]) -> Table:
    """The rows of ``trigger_rows``."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in HEADINGS:
        table.add_column(name)
    for row in trigger_rows(triggers):
        table.add_row(*map(Text, row))
    return table


def whose_weights(result: PurifyResult) -> str:
    """How many of the result's weights are still the suspect's."""
    share = result.suspects_share
    if share >= 1:
        return "weights: all are the suspect's still, changed by training alone"
    others = "the others are a trusted model's or were drawn anew"
    return f"weights: {percent(share)} are the suspect's still, changed by training; {others}"
