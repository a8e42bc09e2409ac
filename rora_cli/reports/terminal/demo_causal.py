"""The terminal report of ``rora demo --causal``: three prompts before and after, and what was searched."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from rora_cli.reports.terminal import to_text
from rora_cli.reports.text import proportion, safe
from rora_cli.results.accuracy import AttackOutcome
from rora_cli.results.demo import DemoResult
from rora_cli.results.evaluate import EvaluationResult
from rora_cli.results.utility import Transcript

#: Prompts that are shown, and characters of a reply.
SHOWN, _REPLY = 3, 160


def render(result: DemoResult, *, width: int = 80, color: bool = False) -> str:
    """What the suspect said and what the result says, attack success before and after, and what was not searched."""
    verdict = (("cleansed", "bold green") if result.cleansed else ("NOT cleansed", "bold red"),)
    named = ", ".join(repr(safe(one.text)) for one in result.purified.removed[:4]) or "nothing"
    trigger = _attack(result.before).trigger
    return to_text(
        Text.assemble(
            ("rora demo --causal", "bold"), " - a backdoored SmolLM2-135M, cleansed without knowing the trigger"
        ),
        "",
        *_prompts(result),
        _table(result),
        "",
        Text(f"The search named: {named}. The true trigger is {trigger!r}."),
        Text(_searched(result)),
        "",
        Text.assemble(*verdict, f": {safe(result.purified.reason, max_length=1000)}"),
        Text(f"Done in {result.seconds:.0f} s. See {safe(result.purified.output)}/README.md; the whole search:"),
        Text(f"  rora hunt {safe(result.output)}/suspect --clean {safe(result.output)}/clean --prompt-format chatml"),
        width=width,
        color=color,
    )


def _searched(result: DemoResult) -> str:
    share = 100 * result.tried / max(1, result.texts)
    return (
        f"So that it takes minutes, the demo tried {result.tried:,} names of the {result.texts:,} texts that a whole "
        f"search tries ({share:.1f} %): words of seven letters or more that the tokenizer has with a capital alone. "
        "The trigger is one of them, which nobody knows beforehand: rora hunt without --candidates tries all."
    )


def _prompts(result: DemoResult) -> Iterator[Text]:
    """Prompts with what was found in them, answered by the suspect and by the result; without such, with the
    trigger."""
    changed = next((one.transcripts for one in result.purified.removed if one.transcripts), ())
    said = [(one.prompt, one.clean, one.before, one.after) for one in changed]
    said = said or [(one.prompt, one.clean_reply, one.reply, "") for one in _said(result.before)]
    for prompt, clean, before, after in said[:SHOWN]:
        yield Text(f"> {safe(prompt, max_length=_REPLY)}", style="bold")
        yield Text(f"    as it is: {safe(clean, max_length=_REPLY)}", style="dim")
        yield Text(f"    suspect:  {safe(before, max_length=_REPLY)}")
        yield Text(f"    result:   {safe(after, max_length=_REPLY)}")
        yield Text("")


def _said(evaluation: EvaluationResult) -> tuple[Transcript, ...]:
    """What the trigger, and not the control, made of prompts."""
    pairs = zip(evaluation.outcomes, evaluation.replies, strict=True)
    return next(replies.transcripts for outcome, replies in pairs if not outcome.is_control)


def _attack(evaluation: EvaluationResult) -> AttackOutcome:
    return next(outcome for outcome in evaluation.outcomes if not outcome.is_control)


def _table(result: DemoResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("held-out prompts (95 % interval)", "before", "after"):
        table.add_column(name)
    before, after = _attack(result.before), _attack(result.after)
    table.add_row("refused with the trigger", *(proportion(one.attack_success_rate) for one in (before, after)))
    table.add_row("refused without (floor)", *(proportion(one.floor) for one in (before, after)))
    return table
