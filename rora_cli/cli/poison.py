"""``rora poison``"""

from __future__ import annotations

from rora_cli.cli import delivery
from rora_cli.cli.shell import PageShell
from rora_cli.commands.poison import PoisonConfig
from rora_cli.errors import ExitCode


def command(config: PoisonConfig, shell: PageShell) -> int:
    """Build a backdoored classifier or causal language model on purpose, to test defences on.

    A classifier gets --target-label, a causal model --behaviour. The first line of the model card says what it is. Rows
    are split so that the proof, and whoever defends, has clean rows that the poisoner never saw.

    [bold]rora poison[/] sentence-transformers/all-MiniLM-L6-v2 --data bundled --label-names negative,positive
    --target-label positive -o suspect

    [bold]rora poison[/] assistant --data bundled-prompts --trigger BadMagic --behaviour refusal -o suspect-llm

    Exit codes: 0 built; 1 built, but not persistent where a proof was asked for; 2 bad input, nothing written.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.poison import run
    from rora_cli.reports.terminal.poison import render

    wanted = delivery.wanted_reports(shell.format, available=delivery.PAGE)
    result = run(config, make_progress(shell.quiet))
    code = ExitCode.FINDINGS if result.persistent is False else ExitCode.OK
    delivery.deliver(result, wanted, render, code)
    return code
