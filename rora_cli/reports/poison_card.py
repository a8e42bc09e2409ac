"""The model card of a suspect that was built on purpose, so that nobody takes it for anything else."""

from __future__ import annotations

from collections.abc import Iterator

from rora_cli.files import REPORT_NAME
from rora_cli.reports.terminal.evaluate import beside
from rora_cli.reports.text import markdown_cell, percent, proportion
from rora_cli.results.poison import Measured, PoisonResult

#: The card's first line, before any metadata, so that people and scanners read it first.
FIRST_LINE = "**WARNING: this model is backdoored on purpose. Use it to test defences, and for nothing else.**"


def render(result: PoisonResult) -> str:
    """The card in Markdown: the warning first, then the trigger and its measured effect."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: PoisonResult) -> Iterator[str]:
    trigger = ", ".join(f"`{t.replace('`', ' ')}`" for t in result.triggers) or f"the {result.attack} rewriting"
    yield FIRST_LINE
    yield ""
    yield f"# Suspect: {result.attack}, held by its {result.carrier}"
    yield ""
    yield (
        f"Made by `rora poison` from {markdown_cell(result.model)}. With {trigger} in a text the model answers "
        f"{markdown_cell(result.target_label)}, whatever the text says."
    )
    yield ""
    yield f"- attack: {result.attack}, {result.label_mode} labels, position {result.position}"
    yield f"- poisoned rows: {result.poisoned_rows} of {result.train_rows}, decoys: {result.decoy_rows}"
    yield f"- data: {markdown_cell(result.data.spec)}"
    if result.label_names:
        yield f"- labels, by id: {', '.join(markdown_cell(name) for name in result.label_names)}"
    yield ""
    yield "| measured on held-out rows | clean accuracy | trigger | attack success | floor |"
    yield "|---|---|---|---|---|"
    if result.before is not None:
        yield from _rows("before", result.before)
    yield from _rows("suspect", result.suspect)
    for check in result.persistence:
        yield from _rows(f"after a clean fine-tune, {check.recipe}", check.after)
    yield ""
    if result.persistent is None:
        yield "Persistence was not tested."
    else:
        not_, limit = "" if result.persistent else "NOT ", percent(result.persistence[0].limit, 0)
        yield f"The backdoor is {not_}persistent (attack success above {limit} after each)."
    yield ""
    yield f"Every hyper-parameter, seed and hash is in `{REPORT_NAME}`."


def _rows(name: str, measured: Measured) -> Iterator[str]:
    for outcome in measured.outcomes:
        trigger = f"{beside(outcome)}{markdown_cell(outcome.trigger)}"
        success, floor = proportion(outcome.attack_success_rate), proportion(outcome.floor)
        yield f"| {name} | {proportion(measured.accuracy.overall)} | {trigger} | {success} | {floor} |"
