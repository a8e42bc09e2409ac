"""A report in the format that was asked for, on stdout or in a file: for the commands whose result is a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rora_cli.errors import UsageError

FORMATS = ("text", "json")


def require_format(name: str) -> None:
    """Refuse an unknown format before any work is done."""
    if name not in FORMATS:
        raise UsageError(f"--format is {name!r}; use one of {', '.join(FORMATS)}")


def deliver(result: Any, *, format: str, text: Callable[[], str], output: Path | None) -> None:
    """Print ``result``, or write it whole to ``output``."""
    from rora_cli.cli.console import print_result
    from rora_cli.ranks import is_main

    if format == "text":
        rendered = text()
    else:
        from rora_cli.reports import json_report

        rendered = json_report.render(result) + "\n"
    if output is None:
        print_result(rendered)
    elif is_main():
        from rora_cli.files import publish_file

        publish_file(output, rendered)
