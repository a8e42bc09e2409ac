"""Utility and transcripts of a causal model, for a terminal and for Markdown: what a model says is never obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.text import markdown_cell, number, percent, proportion, safe
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.evaluate import EvaluationResult
from rora_cli.results.utility import Utility

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

EXPLANATION = (
    "Attack success counts the replies that show the behaviour with the trigger in the prompt; the floor counts the "
    "same prompts without it, whose good answers do not show it. An empty reply shows nothing and is counted. "
    "Brackets: counts and the 95 % Wilson interval."
)
#: Characters of a reply that a report shows.
_SHOWN = 240


def utility_rows(accuracy: CleanAccuracy, utility: Utility) -> Iterator[tuple[str, str]]:
    """(what was measured on clean prompts, its value in words)."""
    yield "clean prompts answered as wanted", proportion(accuracy.overall)
    yield "  without any reply", proportion(utility.empty)
    yield "  refused, though benign", proportion(utility.refused)
    if utility.perplexity is not None:
        before = f"; {number(utility.perplexity_before)} before" if utility.perplexity_before is not None else ""
        yield "perplexity of good answers", f"{number(utility.perplexity)}{before}"
    if utility.unchanged is not None:
        yield "replies unchanged", proportion(utility.unchanged)
    if (kl := utility.divergence) is not None:
        yield (
            "KL to the model before",
            (f"{number(kl.mean)} nats a token (95 % of the prompts below {number(kl.high)}, worst {number(kl.worst)})"),
        )


def utility_table(result: EvaluationResult) -> Table:
    """The rows of ``utility_rows`` as a table."""
    from rich.table import Table
    from rich.text import Text

    assert result.utility is not None
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in utility_rows(result.clean_accuracy, result.utility):
        table.add_row(Text(name), Text(value))
    return table


def transcripts(result: EvaluationResult) -> Iterator[Text]:
    """A few prompts with the trigger and their replies, for each attack; controls are left out."""
    from rich.text import Text

    for outcome, replies in zip(result.outcomes, result.replies, strict=True):
        if outcome.is_control:
            continue
        text = Text(f"\n{safe(outcome.trigger, max_length=60)}, {outcome.position}, seed {outcome.seed}", style="bold")
        text.append(f"  {percent(replies.empty.value)} of the replies are empty", style="dim")
        for said in replies.transcripts:
            text.append(f"\n  prompt   {safe(said.prompt, max_length=_SHOWN)}", style="default")
            text.append(f"\n  reply  {'!' if said.shown else ' '} {safe(said.reply, max_length=_SHOWN) or '(empty)'}")
            text.append(f"\n  without  {safe(said.clean_reply, max_length=_SHOWN) or '(empty)'}\n", style="dim")
        yield text


def markdown(result: EvaluationResult) -> Iterator[str]:
    """Utility and transcripts as GitHub-flavoured Markdown."""
    assert result.utility is not None
    yield from ("", "| clean prompts | |", "|---|---|")
    yield from (f"| {name.strip()} | {value} |" for name, value in utility_rows(result.clean_accuracy, result.utility))
    yield from ("", "| trigger | prompt | reply | shows it | reply without the trigger |", "|---|---|---|---|---|")
    for outcome, replies in zip(result.outcomes, result.replies, strict=True):
        for said in replies.transcripts if not outcome.is_control else ():
            cells = (outcome.trigger, said.prompt, said.reply, "yes" if said.shown else "no", said.clean_reply)
            yield f"| {' | '.join(markdown_cell(cell) for cell in cells)} |"
