"""``rora verify``"""

from __future__ import annotations

from typing import Annotated

import typer

from rora_cli.cli import delivery, options


def command(
    directory: Annotated[str, typer.Argument(help="A directory that rora wrote.", metavar="DIR")],
    format: options.FORMAT = "text",
    quiet: options.QUIET = False,
) -> None:
    """Check a directory that rora wrote against the sha256 manifest in it.

    Exit codes: 0 intact; 1 something was changed, removed or added; 2 there is no manifest.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import verify
    from rora_cli.reports.terminal import verify as report

    delivery.require_format(format)
    result = verify.run(verify.VerifyConfig(path=directory), make_progress(quiet))
    delivery.deliver(result, format=format, text=lambda: report.render(result, **options.terminal()), output=None)
    raise typer.Exit(verify.exit_code(result))
