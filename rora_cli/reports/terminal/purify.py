"""The terminal report of ``rora purify``."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from rora_cli.reports.terminal import power, to_text
from rora_cli.reports.terminal.cleansed_replies import change_table, removed_table
from rora_cli.reports.terminal.cleansed_triggers import trigger_table, whose_weights
from rora_cli.reports.text import count, percent, safe
from rora_cli.reports.verdicts import in_plain_words, next_command, still_good, what_is_unmet
from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Finding
from rora_cli.results.purify import FoundResidual, PurifyResult, RescalingOutcome, StageRecord

_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "not assessed": "bold yellow"}


def render(result: PurifyResult, *, width: int = 80, color: bool = False) -> str:
    """What it means and what to do next, then accuracies before and after, the stages of the cleansing, the verdict,
    and what its search would have found."""
    head = Text.assemble(
        ("rora purify ", "bold"), safe(result.model), f"   recipe {result.recipe}, seed {result.provenance.seed}"
    )
    verdict = Text.assemble(
        ("verdict: ", "bold"), (result.verdict, _STYLES[result.verdict]), f" - {safe(result.reason, max_length=1000)}"
    )
    parts: list[Any] = [*map(Text, in_plain_words(result)), "", head, "", *_measured(result), *_trained(result)]
    parts += [*_stages(result), "", verdict]
    parts += [Text(sentence) for sentence in (still_good(result), what_is_unmet(result)) if sentence]
    if (command := next_command(result)) is not None:
        parts += [Text("what may settle it:"), Text(safe(command, max_length=1000), no_wrap=True, overflow="ignore")]
    if result.residual is not None:
        parts.append(_residual(result.residual))
    notes = [_note(finding) for finding in result.findings if result.reason not in finding.message]
    parts += [Text(note) for note in dict.fromkeys(notes)]
    parts += _silence(result)
    parts += _written(result)
    return to_text(*parts, width=width, color=color)


def _silence(result: PurifyResult) -> list[Any]:
    """What the last search would have found, and what that covers."""
    covering = result.covering
    covered = [] if covering is None else [Text(safe(covering.sentence, max_length=1000))]
    if result.power is None:
        return covered
    return [*power.blocks(result.power, f"the last search of the result: {result.power.sentence}"), *covered, ""]


def _note(finding: Finding) -> str:
    advice = f": {safe(finding.advice, max_length=1000)}" if finding.advice else ""
    return f"{finding.severity.label}: {safe(finding.message, max_length=1000)}{advice}"


def _residual(residual: FoundResidual) -> Text:
    beside = residual.reference_flip_rate
    return Text(
        f"residual: the strongest candidate of the last search, {safe(residual.trigger)!r}, flips "
        f"{percent(residual.flip_rate)} to {safe(residual.target_label)}"
        + (f" (of the reference: {percent(beside)})" if beside is not None else "")
    )


def _measured(result: PurifyResult) -> list[Any]:
    """What the model was good for before and after, and what its triggers did."""
    if result.utility is None:
        triggers = [trigger_table(result.triggers), ""] if result.triggers else []
        return [_accuracies(result), "", *triggers]
    removed = [removed_table(result.removed), ""] if result.removed else []
    return [change_table(result.utility), "", *removed]


def _accuracies(result: PurifyResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("clean accuracy, held out (95 %)")
    for name in ("rows", "before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    before, after = result.accuracy_before, result.accuracy_after
    table.add_row("overall", str(before.overall.total), _interval(before.overall), _interval(after.overall))
    for name, share in before.per_class.items():
        label = Text(f"  {safe(name, max_length=24)}")
        table.add_row(label, str(share.total), _interval(share), _interval(after.per_class[name]))
    return table


def _interval(share: Proportion) -> str:
    if share.low is None or share.high is None:
        return "n/a"
    return f"{percent(share.value)} ({100 * share.low:.1f}-{100 * share.high:.1f})"


def _trained(result: PurifyResult) -> list[Text]:
    weights = Text(whose_weights(result))
    if not result.adapted:
        return [weights]
    kinds = dict.fromkeys(name.rpartition(".")[2] for name in result.adapted)
    whole = f", {' and '.join(result.trained_head)} whole" if result.trained_head else "; the head was left as it is"
    return [Text(f"trained: an adapter on {count(result.adapted, 'layer')} ({', '.join(kinds)}){whole}"), weights]


def _stages(result: PurifyResult) -> list[Text]:
    return [Text(f"{stage.name}: {describe(stage)}") for stage in result.stages]


def describe(stage: StageRecord) -> str:
    """What a stage did, in words."""
    if stage.rescaling is not None:
        return _rescaling(stage.rescaling)
    details = "; ".join(f"{name} {_shown(value)}" for name, value in stage.details.items())
    if stage.epochs:
        last = stage.epochs[-1]
        losses = ", ".join(f"{part} {last[part]:.3g}" for part in ("ce", "tr") if isinstance(last.get(part), float))
        rate = stage.steps / stage.seconds if stage.seconds else 0.0
        return (
            f"{count(stage.epochs, 'epoch')}, {count(stage.steps, 'step')} at {rate:.2g}/s; last losses {losses}; "
            f"held-out accuracy {_accuracy_by_epoch(stage)}" + (f"; {details}" if details else "")
        )
    return details or f"{stage.seconds:.0f} s"


def _accuracy_by_epoch(stage: StageRecord) -> str:
    """Accuracy after every epoch if it was measured each time, else after the last one."""
    if all("accuracy" in epoch for epoch in stage.epochs):
        return f"by epoch {', '.join(percent(epoch['accuracy']) for epoch in stage.epochs)}"
    return f"at the end {percent(stage.epochs[-1].get('accuracy'))}"


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(repr(safe(item, max_length=40)) for item in value[:8]) + (" ..." if len(value) > 8 else "")
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else safe(value)


def _rescaling(outcome: RescalingOutcome) -> str:
    tried = "; ".join(
        f"{attempt.strength:g} of Eq. 12 -> accuracy {percent(attempt.accuracy.overall.value)}"
        f"{'' if attempt.accepted else ', refused'}"
        for attempt in outcome.attempts
    )
    if not outcome.strength:
        return f"Pt gave up and left the adapter as trained ({tried})"
    factors = outcome.factors.values()
    return f"Pt kept {outcome.strength:g} of Eq. 12, factors {min(factors):.3g} to {max(factors):.3g} ({tried})"


def _written(result: PurifyResult) -> list[Text]:
    if result.output is None:
        return []
    checks = ", ".join(f"{name} {value:.1e}" for name, value in result.logit_difference.items())
    where = f"written to {safe(result.output, max_length=400)} (loaded again, largest change of a logit: {checks})"
    if result.verdict == "fail" and "--keep-failed" not in result.asked:
        where += "; not under the name that was asked for, since it failed: --keep-failed writes it there all the same"
    return [Text(where)]
