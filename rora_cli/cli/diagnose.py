"""``rora diagnose``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rora_cli.cli import formats, options

_MARGINS = "Margins on data (runs the model)"


def _show_schema(wanted: bool) -> None:
    if wanted:
        from rora_cli.cli.console import print_result
        from rora_cli.reports.json_schema import shipped

        print_result(shipped("diagnose"))
        raise typer.Exit


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Adapter directories or .safetensors files, hub ids, patterns of paths; with --base also models.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="The base model: adds strength, alignment and the right null."),
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", min=1, help="Width of W's top singular subspaces (method: k = 32).")
    ] = 32,
    intruders: Annotated[
        bool, typer.Option("--intruders", help="Count intruder dimensions as well (two full SVDs a module: slow).")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="DIR|FILE",
            help="Known-good adapters of the same base, from which thresholds are learned and stored there as "
            "rora-calibration.json; or such a file. Without it, spectral findings are information only.",
        ),
    ] = None,
    clean: Annotated[
        str | None,
        typer.Option("--clean", metavar="DATA", rich_help_panel=_MARGINS,
                     help="Run base and adapter on these rows: alignment of margins, and how far the scale may go."),
    ] = None,
    trigger: Annotated[
        str | None,
        typer.Option("--trigger", metavar="TEXT", rich_help_panel=_MARGINS,
                     help="Also with this trigger in (or badnet, insent): what scale would make the model forget it."),
    ] = None,
    target_label: Annotated[
        str | None,
        typer.Option("--target-label", metavar="LABEL", help="The trigger's target.", rich_help_panel=_MARGINS),
    ] = None,
    position: Annotated[
        str,
        typer.Option("--position", help="Where the trigger goes: start, end, random or every.",
                     rich_help_panel=_MARGINS),
    ] = "random",
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=1, help="Use at most this many rows.", rich_help_panel=_MARGINS)
    ] = 256,
    max_accuracy_drop: Annotated[
        float,
        typer.Option("--max-accuracy-drop", metavar="POINTS", rich_help_panel=_MARGINS,
                     help="Points of first-order clean accuracy that a larger scale may cost."),
    ] = 1.0,
    text_column: options.TEXT_COLUMN = None,
    label_column: options.LABEL_COLUMN = None,
    label_map: options.LABEL_MAP = None,
    data_revision: options.DATA_REVISION = None,
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="Lowest severity that gives exit code 1: none, low, medium or high.")
    ] = "medium",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Adapters read at once, for many paths.")] = 1,
    format: options.FORMATS = ["text"],  # noqa: B006 - typer reads it, nobody changes it
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report here instead of stdout.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", is_eager=True, callback=_show_schema, help="Print the JSON Schema of the JSON report, and exit."
        ),
    ] = False,
    detail: Annotated[bool, typer.Option("--detail", help="Every module and finding in the text report.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep the base's spectra in $RORA_CACHE or ~/.cache/rora.")
    ] = True,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="REV", help="Branch, tag or commit of PATHs on the hub; not of the base."),
    ] = None,
    offline: options.OFFLINE = False,
    seed: options.SEED = 0,
    quiet: options.QUIET = False,
    config: options.CONFIG = None,
) -> None:  # fmt: skip
    """Report what an adapter does to its base, from its weights alone: spectra, strength, alignment, oddities.

    No model is built or run, unless --clean asks for it; every tensor is measured or listed with the reason.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 bad input, 3 something could not be analysed and nothing
    was found.
    """
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import diagnose
    from rora_cli.commands.diagnose.cache import default_cache
    from rora_cli.reports.terminal import diagnose as report

    wanted = formats.parse(format, output)
    resolved = diagnose.DiagnoseConfig(
        paths=tuple(paths),
        base=base,
        top_k=top_k,
        workers=workers,
        intruders=intruders,
        calibrate=calibrate,
        clean=clean,
        trigger=trigger,
        target_label=target_label,
        position=position,
        max_rows=max_rows,
        max_accuracy_drop=max_accuracy_drop,
        text_column=text_column,
        label_column=label_column,
        label_map=options.label_map(label_map),
        data_revision=data_revision,
        fail_on=fail_on,
        revision=revision,
        offline=offline,
        seed=seed,
        cache=default_cache() if cache else None,
    )
    result = diagnose.run(resolved, make_progress(quiet))

    def text(to_terminal: bool) -> str:
        return report.render(result, detail=detail, **(options.terminal() if to_terminal else {}))

    code = diagnose.exit_code(result, fail_on)
    formats.write(result, wanted, text, code)
    raise typer.Exit(code)
