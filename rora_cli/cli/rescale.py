"""``rora rescale``"""

from __future__ import annotations

from rora_cli.cli import delivery
from rora_cli.cli.shell import ResultShell
from rora_cli.commands.rescale.config import RescaleConfig
from rora_cli.errors import ExitCode


def command(config: RescaleConfig, shell: ResultShell) -> int:
    """Pt on its own: make a trained adapter as strong as its base (equation 12), without training.

    The factor is computed in float64 on the small matrices and checked on what was written. Running it again changes
    nothing, unless a cap or a fixed factor stands in its way. Heads saved with the adapter are left as they are.

    [bold]rora rescale[/] adapter/ --base base-model

    Exit codes: 0 written; 2 bad input, nothing written.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.rescale.run import run
    from rora_cli.reports.terminal.rescale import render

    wanted = delivery.wanted_reports(shell.format, available=delivery.PLAIN)
    result = run(config, make_progress(shell.quiet))
    delivery.deliver(result, wanted, render, ExitCode.OK)
    return ExitCode.OK
