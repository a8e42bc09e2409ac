"""``rora behaviours``"""

from __future__ import annotations

from rora_cli.cli import delivery
from rora_cli.cli.shell import ResultShell
from rora_cli.commands.behaviours import BehavioursConfig
from rora_cli.errors import ExitCode


def command(config: BehavioursConfig, shell: ResultShell) -> int:
    """List what a causal model's replies are judged for, with the phrases of a refusal, and what poison can plant.

    [bold]rora behaviours[/] --format json
    """
    from rora_cli.commands.behaviours import run
    from rora_cli.reports.terminal.behaviours import render

    deliver = delivery.wanted_reports(shell.format, available=delivery.PLAIN)
    delivery.deliver(run(config), deliver, render, ExitCode.OK)
    return ExitCode.OK
