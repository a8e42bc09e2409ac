"""Options that only the command line has: how a result is shown, and where it goes."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rora_cli.option_groups import OUTPUT, RUN
from rora_cli.options import Option, Options

_SEVERAL = "several times for several; =FILE writes that one there."


def switch_debug_on(value: bool) -> None:
    """Called with ``--debug``, which stands before the command or anywhere behind it."""
    if value:
        os.environ["RORA_DEBUG"] = "1"


@dataclass(frozen=True, kw_only=True)
class Shell(Options):
    """What every command has."""

    panel: ClassVar[str] = RUN

    quiet: Annotated[bool, Option("No progress and no notes on stderr.", ("--quiet", "-q"))] = False
    config: Annotated[
        Path | None,
        Option("YAML or TOML file of options; what stands on the command line wins.", metavar="FILE"),
    ] = None
    debug: Annotated[bool, Option("Show a traceback with every error.", eager=switch_debug_on)] = False


@dataclass(frozen=True, kw_only=True)
class ResultShell(Shell):
    """For a command whose result is files, and a few lines about them."""

    panel: ClassVar[str] = OUTPUT

    format: Annotated[tuple[str, ...], Option(f"text or json, {_SEVERAL}", metavar="NAME[=FILE]")] = ("text",)


@dataclass(frozen=True, kw_only=True)
class PageShell(Shell):
    """For a command whose result is files, and a page about them."""

    panel: ClassVar[str] = OUTPUT

    format: Annotated[tuple[str, ...], Option(f"text, json or html, {_SEVERAL}", metavar="NAME[=FILE]")] = ("text",)


@dataclass(frozen=True, kw_only=True)
class ReportShell(Shell):
    """For a command whose result is a report."""

    panel: ClassVar[str] = OUTPUT

    format: Annotated[
        tuple[str, ...],
        Option(f"text, json, sarif, junit, markdown, html or github (annotations), {_SEVERAL}", metavar="NAME[=FILE]"),
    ] = ("text",)
    output: Annotated[
        Path | None, Option("Write the report here instead of stdout.", ("--output", "-o"), metavar="FILE")
    ] = None


def terminal() -> dict[str, Any]:
    """Width and colour for a text report on stdout: the terminal's, at most 100 columns; 80 and none elsewhere."""
    if not sys.stdout.isatty():
        return {"width": 80, "color": False}
    return {"width": min(shutil.get_terminal_size().columns, 100), "color": not os.environ.get("NO_COLOR")}
