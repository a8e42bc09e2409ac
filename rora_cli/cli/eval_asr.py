"""``rora eval-asr``"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from rora_cli.cli import delivery
from rora_cli.cli.shell import OUTPUT, ReportShell
from rora_cli.commands.evaluate import EvaluateConfig
from rora_cli.options import Option

_FORMATS = ("json", "markdown", "html")


@dataclass(frozen=True, kw_only=True)
class Shell(ReportShell):
    """How the report is shown."""

    panel: ClassVar[str] = OUTPUT

    format: Annotated[
        tuple[str, ...],
        Option(
            "text, json, markdown or html, several times for several; =FILE writes that one there.",
            metavar="NAME[=FILE]",
        ),
    ] = ("text",)


def command(config: EvaluateConfig, shell: Shell) -> int:
    """Measure how often a trigger turns rows of other labels to the target label, or replies to a behaviour.

    The files tell whether MODEL is a classifier or a causal language model. Beside every attack success rate stand the
    floor (the same rows without the trigger), a random control trigger, and clean accuracy overall and per class, or
    what replies to clean prompts are still worth, all with counts and a 95 % interval.

    [bold]rora eval-asr[/] suspect --data sst2 --attack badnet --target-label positive

    [bold]rora eval-asr[/] assistant --data bundled-prompts --trigger BadMagic --behaviour refusal

    Exit codes: 0 measured, and --max-asr met where given; 1 --max-asr not met; 2 bad input; 3 too few rows to tell, or
    logits that are not finite.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.evaluate import exit_code, run
    from rora_cli.commands.first_checks import require_inputs
    from rora_cli.reports.terminal.evaluate import render, render_markdown

    require_inputs((config.model,), config.data)
    wanted = delivery.wanted_reports(shell.format, shell.output, _FORMATS)
    result = run(config, make_progress(shell.quiet))
    code = exit_code(result)
    delivery.deliver(result, wanted, render, code, {"markdown": render_markdown})
    return code
