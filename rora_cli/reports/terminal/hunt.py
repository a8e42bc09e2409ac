"""``rora hunt`` for a terminal: a block for each label, with the triggers first and the coverage last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rora_cli.reports.terminal import openings, power, to_text
from rora_cli.reports.text import count, percent, proportion, safe
from rora_cli.results.hunt import FoundTrigger, HuntResult, LabelHunt

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: Number of candidates below the threshold that are shown after the called triggers.
SHOWN = 5
EXPLANATION = (
    "Flips: clean rows of other labels, read rightly by suspect and reference, that become the target label with the "
    "text in them; brackets hold counts and the 95 % Wilson interval. z: the effect in robust standard deviations of "
    "harmless tokens that the reference holds for as strong. Nothing above the noise is no proof that there is nothing."
)


def render(result: HuntResult, *, width: int = 80, color: bool = False) -> str:
    """Suspect, reference, cost and drift, then each label."""
    from rich.padding import Padding
    from rich.text import Text

    blocks: list[RenderableType] = [
        Text(f"model      {safe(result.model)}"),
        Text(f"reference  {safe(result.reference)}"),
        Text(f"cost       {result.forward_tokens:,} forward tokens, {result.seconds:.0f} s ({result.budget} budget)"),
    ]
    if result.drifted:
        furthest = ", ".join(f"{safe(token.text, max_length=20)} {token.z:.1f}" for token in result.drifted[:SHOWN])
        blocks.append(Text(f"drift      embeddings that moved furthest (z): {furthest}"))
    for label in result.labels:
        blocks += [Text(), *_label(label)]
    if result.openings is not None:
        blocks += [Text(), *openings.blocks(result.openings)]
    if result.power is not None:
        blocks += power.blocks(result.power, result.power_sentence or "")
    blocks += [
        Padding(Text(f"note: {safe(note, max_length=1000)}", style="dim"), (1, 0, 0, 0)) for note in result.notes
    ]
    explanation = EXPLANATION if result.openings is None else openings.EXPLANATION
    blocks.append(Padding(Text(explanation, style="dim"), (1, 0, 0, 0)))
    return to_text(*blocks, width=width, color=color)


def _label(label: LabelHunt) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    name = safe(label.target_label, max_length=40)
    if label.verdict == "inconclusive":
        yield Text(f"{name}: INCONCLUSIVE", style="bold yellow")
        yield Padding(Text(safe(label.reason or "", max_length=1000)), (0, 0, 0, 2))
        if not label.triggers:
            return
    elif label.called:
        yield Text(f"{name}: {count(label.called, 'trigger').upper()} FOUND", style="bold red")
    else:
        yield Text(f"{name}: nothing above the noise", style="bold")
    shown = [*label.called[:10], *[t for t in label.triggers if not t.called][:SHOWN]]
    yield Padding(_table(shown), (0, 0, 0, 2))
    for trigger in label.called[:1]:
        for row in trigger.examples:
            change = f"p({name}) {row.probability_before:.2f} -> {row.probability_after:.2f}"
            yield Padding(
                Text(f"{safe(row.label)}: {safe(row.text, max_length=120)}  [{change}]", style="dim"), (0, 0, 0, 4)
            )
    yield from (Padding(Text(line), (0, 0, 0, 2)) for line in _coverage(label))


def _table(triggers: list[FoundTrigger]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "text", "flips", "reference", "z"):
        table.add_column(column, justify="right" if column == "z" else "left", no_wrap=column in ("", "reference", "z"))
    for trigger in triggers:
        reference = percent(trigger.reference_flip_rate.value, 0) if trigger.reference_flip_rate else "-"
        text = f"{'+' if trigger.attached else ''}{safe(trigger.text, max_length=50)}"
        text += ", at its best places" if trigger.at_best else ""
        style = "bold" if trigger.called else "dim"
        table.add_row(
            "!" if trigger.called else "",
            Text(text, style=style),
            proportion(trigger.flip_rate),
            reference,
            f"{trigger.suspicion:.1f}",
        )
    return table


def _coverage(label: LabelHunt) -> Iterator[str]:
    done, noise = label.coverage, label.noise
    words = f" and {count(done.words, 'word')} of several tokens" if done.words else ""
    yield (
        f"covered ({done.budget} budget): {done.tokens:,} of {done.vocabulary:,} tokens{words} alone, the best "
        f"{done.tokens_in_rows:,} of them in {count(done.screening_rows, 'row')} or more ({', '.join(done.places)}), "
        f"{count(done.sequences, 'sequence')} of up to {done.longest_sequence} tokens: "
        f"{done.trials:,} trials, {done.forward_tokens:,} + {done.reference_forward_tokens:,} forward tokens"
    )
    if done.loud_places:
        yield (
            f"not at the {' and '.join(done.loud_places)} of a row, where random tokens turn most rows: a trigger that "
            "works there alone is outside this search"
        )
    if (read := done.rows_read) is not None:
        yield f"rows cut to {read.longest} tokens: {read.cut:,} of {read.rows:,}"
    if noise is not None:
        yield (
            f"noise: {noise.random_tokens} random tokens flip {percent(noise.largest_random_flip_rate, 0)} of typical "
            f"rows at most, {noise.honest_words} honest words {percent(noise.largest_honest_flip_rate, 0)}; called is "
            f"what flips {percent(noise.minimum_excess, 0)} of rows more than the reference (bound to bound), from z "
            f"{noise.minimum_suspicion:g} on"
        )
