"""``rora diagnose``"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import typer

from rora_cli.cli import delivery
from rora_cli.cli.shell import OUTPUT, RUN, ReportShell
from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.options import Option


def _show_schema(wanted: bool) -> None:
    if wanted:
        from rora_cli.cli.console import print_result
        from rora_cli.reports.json_schema import shipped

        print_result(shipped("diagnose"))
        raise typer.Exit


@dataclass(frozen=True, kw_only=True)
class Report(ReportShell):
    """How the report is shown."""

    panel: ClassVar[str] = OUTPUT

    detail: Annotated[bool, Option("Every module and finding in the text report.")] = False
    schema: Annotated[bool, Option("Print the JSON Schema of the JSON report, and exit.", eager=_show_schema)] = False


@dataclass(frozen=True, kw_only=True)
class Shell(Report):
    """What is kept for the next time."""

    panel: ClassVar[str] = RUN

    keep_spectra: Annotated[
        bool, Option("Keep the base's spectra in $RORA_CACHE or ~/.cache/rora.", ("--cache/--no-cache",))
    ] = True


def command(config: DiagnoseConfig, shell: Shell) -> int:
    """Report what an adapter does to its base, from its weights alone: spectra, strength, alignment, oddities.

    No model is built or run, unless --clean asks for it; every tensor is measured or listed with the reason.

    [bold]rora diagnose[/] adapter/ --base base-model

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 bad input, 3 something could not be analysed and nothing
    was found.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import diagnose
    from rora_cli.commands.diagnose.cache import default_cache
    from rora_cli.reports.terminal.diagnose import render

    wanted = delivery.wanted_reports(shell.format, shell.output)
    config = replace(config, cache=default_cache() if shell.keep_spectra else None)
    result = diagnose.run(config, make_progress(shell.quiet))
    code = diagnose.exit_code(result, config.fail_on)
    delivery.deliver(result, wanted, partial(render, detail=shell.detail), code)
    return code
