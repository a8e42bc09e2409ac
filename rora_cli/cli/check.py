"""``rora check``"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from rora_cli.cli import delivery
from rora_cli.cli.shell import OUTPUT, ReportShell
from rora_cli.commands.check import CheckConfig
from rora_cli.options import Option

#: A bill of materials, which is made of files and their hashes.
BOM = "cyclonedx"


@dataclass(frozen=True, kw_only=True)
class Shell(ReportShell):
    """How the report is shown."""

    panel: ClassVar[str] = OUTPUT

    format: Annotated[
        tuple[str, ...],
        Option(
            "text, json, sarif, junit, markdown, html, github (annotations) or cyclonedx (a bill of materials, with "
            "--hashes), several times for several; =FILE writes that one there.",
            metavar="NAME[=FILE]",
        ),
    ] = ("text",)


def command(config: CheckConfig, shell: Shell) -> int:
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
        wanted = delivery.wanted_reports(shell.format, shell.output, (*delivery.FORMATS, BOM))
        if any(report.format == BOM for report in wanted):
            config = replace(config, hashes=True)
        result = check.run(config, make_progress(shell.quiet))
        code = check.exit_code(result, config.fail_on)
        delivery.deliver(result, wanted, render, code, {BOM: _bill_of_materials})
    return code


def _bill_of_materials(result: Any) -> str:
    from rora_cli.reports.cyclonedx import render

    return render(result)
