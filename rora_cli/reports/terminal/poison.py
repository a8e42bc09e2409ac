"""``rora poison`` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import count, percent, proportion, safe
from rora_cli.results.poison import Measured, PoisonResult


def render(result: PoisonResult, *, width: int = 80, color: bool = False) -> str:
    """The suspect, then its clean accuracy, attack success and floor at every measured moment."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "clean acc.", "attack success", "floor"):
        table.add_column(column, no_wrap=bool(column))
    moments = [("before", result.before)] if result.before is not None else []
    moments += [("suspect", result.suspect)]
    moments += [(f"after {check.recipe}", check.after) for check in result.persistence]
    for name, measured in moments:
        for row in _rows(name, measured):
            table.add_row(*map(Text, row))
    verdict = _verdict(result)
    return to_text(
        Text("\n".join(_heading(result))),
        "",
        table,
        Padding(Text(verdict, style="bold"), (1, 0, 0, 0)),
        *(Text(f"! {safe(finding.message)}") for finding in result.findings),
        Padding(Text(f"{safe(result.output)} is backdoored on purpose: its model card says so."), (1, 0, 0, 0)),
        width=width,
        color=color,
    )


def _heading(result: PoisonResult) -> Iterator[str]:
    trigger = ", ".join(safe(trigger, max_length=40) for trigger in result.triggers)
    yield f"model    {safe(result.model)}"
    yield f"attack   {result.attack}{f': {trigger}' if trigger else ''}, {result.label_mode} labels, {result.position}"
    yield f"target   {safe(result.target_label)}"
    yield f"carrier  {result.carrier}"
    yield (
        f"rows     {result.poisoned_rows:,} poisoned and {count(result.decoy_rows, 'decoy')} of {result.train_rows:,}; "
        f"{result.clean_rows:,} kept clean"
    )


def _rows(name: str, measured: Measured) -> Iterator[tuple[str, str, str, str]]:
    accuracy = percent(measured.accuracy.overall.value)
    for number, outcome in enumerate(measured.outcomes):
        first = name if number == 0 else f"  {safe(outcome.trigger, max_length=24)}"
        label = ("  decoy" if outcome.trigger.startswith("decoy of") else "  control") if outcome.is_control else first
        success = proportion(outcome.attack_success_rate)
        yield label, accuracy if number == 0 else "", success, percent(outcome.floor.value)


def _verdict(result: PoisonResult) -> str:
    if result.persistent is None:
        return "persistence not tested: --prove-persistence fine-tunes copies on clean rows"
    limit = percent(result.persistence[0].limit, 0)
    return (
        f"persistent: attack success above {limit} after every clean fine-tune"
        if result.persistent
        else f"NOT persistent: attack success falls to {limit} or below in a clean fine-tune"
    )
