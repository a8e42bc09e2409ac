"""``rora rules``"""

from __future__ import annotations

from rora_cli.cli import delivery
from rora_cli.cli.shell import ResultShell
from rora_cli.commands.rules import RulesConfig
from rora_cli.errors import ExitCode


def command(config: RulesConfig, shell: ResultShell) -> int:
    """List the rules that findings name: what each means, how much it matters, and what to do.

    [bold]rora rules[/] file adapter/hidden-base-tensor
    """
    from rora_cli.commands.rules import run
    from rora_cli.reports.terminal.rules import render

    delivery.deliver(run(config), delivery.wanted_reports(shell.format, available=delivery.PLAIN), render, ExitCode.OK)
    return ExitCode.OK
