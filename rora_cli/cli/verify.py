"""``rora verify``"""

from __future__ import annotations

from rora_cli.cli import delivery
from rora_cli.cli.shell import ResultShell
from rora_cli.commands.verify import VerifyConfig


def command(config: VerifyConfig, shell: ResultShell) -> int:
    """Check a directory that rora wrote against the sha256 manifest in it.

    Exit codes: 0 intact; 1 something was changed, removed or added; 2 there is no manifest.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import verify
    from rora_cli.reports.terminal.verify import render

    wanted = delivery.wanted_reports(shell.format, available=delivery.PLAIN)
    result = verify.run(config, make_progress(shell.quiet))
    code = verify.exit_code(result)
    delivery.deliver(result, wanted, render, code)
    return code
