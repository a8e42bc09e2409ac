"""What a cleansing cost a model that replies in free text, and what became of its triggers, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.text import number, percent, proportion, safe
from rora_cli.results.accuracy import Proportion
from rora_cli.results.utility import Removed, UtilityChange

if TYPE_CHECKING:
    from rich.table import Table


def change_rows(change: UtilityChange) -> Iterator[tuple[str, str, str]]:
    """(what was measured on prompts held out, the suspect's, the result's), in words."""
    before, after = change.before, change.after
    yield "without any reply", proportion(before.empty), proportion(after.empty)
    yield "refused, though benign", proportion(before.refused), proportion(after.refused)
    if before.perplexity is not None and after.perplexity is not None:
        yield "perplexity of the answers", number(before.perplexity), number(after.perplexity)
    if (kl := change.divergence) is not None:
        own = f"{number(kl.mean)} (95 % of the prompts below {number(kl.high)}, worst {number(kl.worst)})"
        base = change.base_divergence
        yield "KL from the suspect, nats a token", f"base {number(base.mean)}" if base else "0", own


def removed_rows(removed: tuple[Removed, ...]) -> Iterator[tuple[str, str, str, str, str]]:
    """(trigger, place, how replies opened with it, share before, share after), in words."""
    for one in removed:
        after = f"{_share(one.after)}, without it {percent(one.after_floor.value if one.after_floor else None)}"
        if one.does_otherwise:
            after += f"; {_share(one.alike)} with {safe(one.alike_opening, max_length=40)!r}"
        if one.returned is not None:
            after += f"; after fine-tuning {_share(one.returned)}"
        yield safe(one.text, max_length=40), one.place, safe(one.opening, max_length=40), _share(one.before), after


def _share(share: Proportion | None) -> str:
    return "not measured" if share is None else f"{percent(share.value)} ({share.count} of {share.total})"


def change_table(change: UtilityChange) -> Table:
    """The rows of ``change_rows``."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for name in ("replies to clean prompts, held out (95 %)", "before", "after"):
        table.add_column(name)
    for row in change_rows(change):
        table.add_row(*map(Text, row))
    return table


def removed_table(removed: tuple[Removed, ...]) -> Table:
    """The rows of ``removed_rows``."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for name in ("trigger", "place", "replies opened with", "before", "after"):
        table.add_column(name)
    for row in removed_rows(removed):
        table.add_row(*map(Text, row))
    return table
