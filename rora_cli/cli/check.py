"""``rora check``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rora_cli.cli import formats, options

if TYPE_CHECKING:
    from rora_cli.commands.check import CheckConfig


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Model or adapter directories, single files of either, or a model's folder in the hub's cache.",
            metavar="PATH...",
        ),
    ],
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="Lowest severity that gives exit code 1: none, low, medium or high.")
    ] = "medium",
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="DIR", help="A trusted base model: tokenizers and chat templates are compared."),
    ] = None,
    role: Annotated[
        str, typer.Option("--role", help="What the paths are: auto (by their files), model or adapter.")
    ] = "auto",
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            metavar="PATTERN",
            help="Files that need not be analysed, by their relative names (*.gguf). May be given several times.",
        ),
    ] = None,
    format: options.FORMATS = ["text"],  # noqa: B006 - typer reads it, nobody changes it
    output: options.REPORT_FILE = None,
    quiet: options.QUIET = False,
) -> None:
    """Inspect checkpoints without loading them: files, JSON, safetensors headers.

    Nothing is run, unpickled, followed out of the directory or fetched; pickles are searched for what they would
    import. The findings are about what the checkpoint is, not about how the model behaves.

    Exit codes: 0 none, 1 findings at or above --fail-on, 2 no such checkpoint, 3 something could not be analysed and
    nothing was found.
    """
    from rora_cli.checkpoints.strict_json import collector_paused
    from rora_cli.commands import check

    with collector_paused():  # the million objects of a vocabulary would be looked through again and again
        config = check.CheckConfig(
            paths=tuple(paths),
            base=base,
            fail_on=fail_on,
            role=role,  # type: ignore[arg-type]
            ignore=tuple(ignore or ()),
        )
        code = _check(config, formats.parse(format, output), quiet)
    raise typer.Exit(code)


def _check(config: CheckConfig, wanted: list[formats.Wanted], quiet: bool) -> int:
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import check
    from rora_cli.reports.terminal import check as report

    result = check.run(config, make_progress(quiet))
    code = check.exit_code(result, config.fail_on)

    def text(to_terminal: bool) -> str:
        return report.render(result, **(options.terminal() if to_terminal else {}))

    formats.write(result, wanted, text, code)
    return code
