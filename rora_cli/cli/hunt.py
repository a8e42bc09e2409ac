"""``rora hunt``"""

from __future__ import annotations

from dataclasses import dataclass

from rora_cli.cli import delivery
from rora_cli.cli.dry_run import DryRunOption, show_plan
from rora_cli.cli.shell import ReportShell
from rora_cli.commands.hunt import HuntConfig


@dataclass(frozen=True, kw_only=True)
class Shell(ReportShell, DryRunOption):
    """How the report is shown."""


def command(config: HuntConfig, shell: Shell) -> int:
    """Search a model for triggers: words and short sequences that turn other rows into a label, or make replies alike.

    Every token of the vocabulary but the special ones is tried in clean rows (of longer ones the first 48 tokens are
    read), then sequences of what stands out, and ranked by what they do beyond a reference classifier that has seen the
    same clean rows. Finding nothing is a statement about what was covered, which the report counts; it is no proof.

    --power says what that is worth: of backdoors planted in copies of the model, it counts those that the same search
    finds.

    Of a causal language model neither trigger nor target need be known: every text of the vocabulary is put into
    prompts, and what makes the replies to different prompts open alike is grown, generated on held-out prompts, and
    shown.

    [bold]rora hunt[/] suspect-model --clean sst2

    [bold]rora hunt[/] suspect-llm --clean prompts.jsonl --reference base-llm

    Exit codes: 0 nothing above the noise, 1 a trigger was found (see --fail-on), 2 bad input, 3 inconclusive: a label
    could not be searched, a candidate is neither a trigger nor harmless, or --power could not be measured.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import hunt
    from rora_cli.commands.first_checks import require_inputs
    from rora_cli.reports.terminal.hunt import render

    require_inputs((config.model,), config.clean)
    progress = make_progress(shell.quiet)
    if shell.dry_run:
        return show_plan(config, shell.format, progress)
    wanted = delivery.wanted_reports(shell.format, shell.output)
    result = hunt.run(config, progress)
    code = hunt.exit_code(result, config.fail_on)
    delivery.deliver(result, wanted, render, code)
    return code
