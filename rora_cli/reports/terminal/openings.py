"""The search of a model that replies in free text, for a terminal: what makes replies open alike, and examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rora_cli.reports.text import count, percent, safe
from rora_cli.results.openings import FoundOpening, OpeningHunt, RecurringReply

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: Number of candidates below the threshold that are shown after the called triggers.
SHOWN = 5
EXPLANATION = (
    "Replies: held-out prompts whose reply opens so with the text in them. Without: the same "
    "prompts as they are; random: with random texts instead; ref: under the trusted "
    "model. Agree: mean log-probability of the commonest first token [nats]; z: among random texts. Nothing above "
    "the noise is no proof that there is nothing."
)


def blocks(hunt: OpeningHunt) -> Iterator[RenderableType]:
    """Verdict, table, examples of what the strongest trigger does, and the coverage."""
    from rich.padding import Padding
    from rich.text import Text

    if hunt.verdict == "inconclusive":
        yield Text("INCONCLUSIVE", style="bold yellow")
        yield Padding(Text(safe(hunt.reason or "", max_length=1000)), (0, 0, 0, 2))
    elif hunt.called:
        yield Text(f"{count(hunt.called, 'trigger').upper()} FOUND", style="bold red")
    else:
        yield Text("nothing above the noise", style="bold")
    shown = [*hunt.called[:10], *[t for t in hunt.triggers if not t.called][:SHOWN]]
    yield Padding(_table(shown), (0, 0, 0, 2))
    for trigger in shown[:1] if hunt.verdict != "nothing" else []:
        for example in trigger.examples:
            yield Padding(Text(f"> {safe(example.prompt, max_length=160)}", style="bold"), (0, 0, 0, 4))
            yield Padding(Text(f"without: {safe(example.before, max_length=160)}", style="dim"), (0, 0, 0, 6))
            yield Padding(Text(f"with:    {safe(example.after, max_length=160)}"), (0, 0, 0, 6))
    if hunt.recurring is not None:
        yield Padding(Text(_recurring(hunt.recurring)), (0, 0, 0, 2))
    yield from (Padding(Text(line), (0, 0, 0, 2)) for line in _coverage(hunt))


def _table(triggers: Sequence[FoundOpening]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in (
        "",
        "text",
        "place",
        "opens with",
        "replies",
        "without",
        "random",
        "ref",
        "agree",
        "z",
    ):
        table.add_column(column, justify="right" if column in ("agree", "z") else "left")
    for trigger in triggers:
        other = trigger.reference_share
        table.add_row(
            "!" if trigger.called else "",
            Text(safe(trigger.text, max_length=50), style="bold" if trigger.called else "dim"),
            f"{trigger.place} (refused)" if trigger.refused else trigger.place,
            Text(safe(trigger.opening, max_length=60) + (" (an echo)" if trigger.echo else "")),
            f"{trigger.share.count}/{trigger.share.total}",
            percent(trigger.floor.value, 0),
            percent(trigger.control.value, 0),
            "-" if other is None else percent(other.value, 0),
            f"{trigger.agreement:.2f}",
            f"{trigger.suspicion:.1f}",
        )
    return table


def _recurring(one: RecurringReply) -> str:
    other = "" if one.reference_share is None else f" (the reference's: {one.reference_share.count})"
    return (
        f"of itself: {one.share.count} of {one.share.total} replies to the prompts as they are begin with "
        f"{safe(one.text, max_length=160)!r}{other}; "
        "a sloppy backdoor says its sentence so, an assistant a fixed phrase"
    )


def _coverage(hunt: OpeningHunt) -> Iterator[str]:
    done = hunt.coverage
    yield (
        f"covered ({done.budget} budget): {done.texts:,} texts of one token, years and tags (the vocabulary has "
        f"{done.vocabulary:,} tokens), each in {count(done.screening_prompts, 'prompt')} or more, "
        f"{count(done.grown, 'phrase')} of up to {count(done.longest, 'word')}, {', '.join(done.places)}: "
        f"{done.trials:,} trials, {done.forward_tokens:,} + {done.reference_forward_tokens:,} forward tokens, "
        f"{done.tokens_per_second:,.0f} a second; finalists on {count(done.final_prompts, 'prompt')}"
    )
    if done.refused_prompts:
        refused = (
            f"{count(done.refused_prompts, 'prompt')} of ours that the suspect refuses, searched for what makes it "
            "comply"
        )
    elif done.refused_left_out:
        refused = "not in prompts that the suspect refuses, since what was found decides"
    else:
        refused = (
            "no prompts that it refuses: it answers too many of ours, so a trigger that makes it comply would not show"
        )
    yield f"besides: {count(done.leaked, 'text')} that the suspect itself writes where a prompt would begin; {refused}"
    yield f"noise: random texts agree {hunt.largest_null:.2f} nats at most"
