"""The terminal report of ``rora demo``: what happened, and the table of before and after."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from rora_cli.files import REPORT_NAME
from rora_cli.reports.terminal import demo_causal, to_text
from rora_cli.reports.text import proportion, safe
from rora_cli.results.accuracy import AttackOutcome
from rora_cli.results.demo import DemoResult
from rora_cli.results.evaluate import EvaluationResult


def render(result: DemoResult, *, width: int = 80, color: bool = False) -> str:
    """The story of the demo, and accuracy and attack success before and after."""
    if result.diagnosis is None:
        return demo_causal.render(result, width=width, color=color)
    found = [s for stage in result.purified.stages if isinstance(s := stage.details.get("found"), (list, tuple))]
    named = ", ".join(safe(item) for item in (found[0] if found else [])[:4]) or "nothing"
    verdict = (
        ("cleansed", "bold green") if result.cleansed else ("NOT cleansed", "bold red"),
        f": {safe(result.purified.reason, max_length=1000)}",
    )
    return to_text(
        Text.assemble(("rora demo", "bold"), " - a backdoored MiniLM, cleansed without knowing the trigger"),
        "",
        _table(result),
        "",
        Text(f"The first search named: {named}. The true trigger is {result.before.outcomes[0].trigger!r}."),
        Text(
            "The paper's recipe alone (purify --recipe paper) does not cleanse a backdoor as firm as this one; the "
            "default recipe searches for triggers and hardens the model against them."
        ),
        "",
        Text.assemble(*verdict),
        Text(f"Done in {result.seconds:.0f} s. See {safe(result.purified.output)}/README.md and {REPORT_NAME}; try:"),
        Text(f"  rora hunt {safe(result.output)}/suspect --clean {safe(result.output)}/clean"),
        width=width,
        color=color,
    )


def _table(result: DemoResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("held-out rows (95 % interval)", "before", "after"):
        table.add_column(name)
    before, after = _attack(result.before), _attack(result.after)
    rows = [
        ("attack success", before.attack_success_rate, after.attack_success_rate),
        ("  floor: misread without trigger", before.floor, after.floor),
        ("clean accuracy", result.before.clean_accuracy.overall, result.after.clean_accuracy.overall),
    ]
    rows += [
        (f"  {safe(name)}", share, result.after.clean_accuracy.per_class[name])
        for name, share in result.before.clean_accuracy.per_class.items()
    ]
    for name, old, new in rows:
        table.add_row(Text(name), proportion(old), proportion(new))
    return table


def _attack(evaluation: EvaluationResult) -> AttackOutcome:
    return next(outcome for outcome in evaluation.outcomes if not outcome.is_control)
