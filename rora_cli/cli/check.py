"""``rora check``"""

from __future__ import annotations

from rora_cli.cli import delivery
from rora_cli.cli.shell import ReportShell
from rora_cli.commands.check import CheckConfig


def command(config: CheckConfig, shell: ReportShell) -> int:
    """Inspect checkpoints without loading them: files, JSON, safetensors headers.

    Nothing is run, unpickled or followed out of the directory; pickles are searched for what they would import. Of a
    hub id the headers and small files are fetched, and not kept. The findings are about what the checkpoint is, not
    about how the model behaves.

    [bold]rora check[/] suspect-model adapter/

    Exit codes: 0 none, 1 findings at or above --fail-on, 2 no such checkpoint, 3 something could not be analysed and
    nothing was found.
    """
    from rora_cli.checkpoints.strict_json import collector_paused
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import check
    from rora_cli.reports.terminal.check import render

    with collector_paused():  # the million objects of a vocabulary would be looked through again and again
        wanted = delivery.wanted_reports(shell.format, shell.output)
        result = check.run(config, make_progress(shell.quiet))
        code = check.exit_code(result, config.fail_on)
        delivery.deliver(result, wanted, render, code)
    return code
