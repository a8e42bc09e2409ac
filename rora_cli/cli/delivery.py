"""``--format NAME[=FILE]``, several times: which reports are wanted, and where each goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rora_cli.errors import UsageError
from rora_cli.reports.registry import FORMATS, renderer

#: What a command offers whose result is files.
PLAIN = ("json",)
#: The same, where there is a page as well.
PAGE = (*PLAIN, "html")
#: A result's text, as a terminal of this width and colour shows it.
Render = Callable[..., str]


@dataclass(frozen=True)
class Wanted:
    """One report; ``file`` None means stdout."""

    format: str
    file: Path | None


def wanted_reports(
    specs: Sequence[str], output: Path | None = None, available: Collection[str] = tuple(FORMATS)
) -> list[Wanted]:
    """The reports that ``specs`` ask for, of text and ``available``; the one without a file of its own goes to
    ``output``.

    Raises UsageError for an unknown format, a second report for the same place, or an output that nothing goes to.
    """
    wanted = []
    for spec in specs:
        name, equals, file = spec.partition("=")
        if name != "text" and name not in available:
            raise UsageError(f"--format is {name!r}; use one of text, {', '.join(available)}")
        if equals and not file:
            raise UsageError(f"--format {spec!r} names no file after the =")
        wanted.append(Wanted(name, Path(file) if equals else output))
    places = [w.file for w in wanted]
    if len(set(places)) < len(places):
        raise UsageError("two reports for one place: give each a file of its own, as --format json=FILE")
    if output is not None and output not in places:
        raise UsageError(f"nothing goes to --output {output}: every --format names a file of its own")
    return wanted


def deliver(
    result: Any,
    wanted: Sequence[Wanted],
    text: Render,
    code: int,
    others: Mapping[str, Callable[[Any], str]] | None = None,
) -> None:
    """Render and deliver each; ``text(result, width=..., color=...)`` is the command's own report.

    ``others`` replace renderers of the registry. Where all reports go to files and the exit ``code`` is not 0, the text
    goes to stderr: a gate says why it fails.
    """
    from rora_cli.cli.console import print_result
    from rora_cli.cli.shell import terminal
    from rora_cli.files import publish_file
    from rora_cli.ranks import is_main

    for report in wanted:
        if report.format == "text":
            rendered = text(result, **(terminal() if report.file is None else {}))
        else:
            rendered = ((others or {}).get(report.format) or renderer(report.format))(result)
        rendered = rendered if rendered.endswith("\n") else rendered + "\n"
        if report.file is None:
            print_result(rendered)
        elif is_main():
            publish_file(report.file, rendered)
    if code and is_main() and all(report.file is not None for report in wanted):
        print(text(result), file=sys.stderr, flush=True)
