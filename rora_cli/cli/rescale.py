"""``rora rescale``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rora_cli.cli import options

_HOW = "How much and where"
_GUARD = "Clean accuracy"


def command(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Adapter directory, or hub id.")],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="The base model, for sigma_max(W). Not needed with --factor."),
    ] = None,
    layers: Annotated[
        str,
        typer.Option("--layers", help="topN blocks, all, or block numbers: 0,2,9-11 (the paper: the top three).",
                     rich_help_panel=_HOW),
    ] = "top3",
    strength: Annotated[
        float,
        typer.Option("--strength", metavar="SHARE", rich_help_panel=_HOW,
                     help="Share of equation 12's factor sigma_max(W) / sigma_max(s B A); 1 is the paper's."),
    ] = 1.0,
    factor: Annotated[
        float | None,
        typer.Option("--factor", metavar="X", help="Multiply by this instead of by the rule.", rich_help_panel=_HOW),
    ] = None,
    cap: Annotated[
        float | None,
        typer.Option("--cap", metavar="X", help="Largest factor: large ones ruin clean accuracy.", show_default="none",
                     rich_help_panel=_HOW),
    ] = None,
    clean: Annotated[
        str | None,
        typer.Option("--clean", metavar="DATA", rich_help_panel=_GUARD,
                     help="Clean data: lower the factors together until clean accuracy holds."),
    ] = None,
    max_accuracy_drop: Annotated[
        float,
        typer.Option("--max-accuracy-drop", metavar="POINTS", rich_help_panel=_GUARD,
                     help="Points of clean accuracy that may be lost; a class may lose twice that."),
    ] = 1.0,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Use at most this many clean rows.", rich_help_panel=_GUARD)
    ] = None,
    text_column: options.TEXT_COLUMN = None,
    label_column: options.LABEL_COLUMN = None,
    label_map: options.LABEL_MAP = None,
    data_revision: options.DATA_REVISION = None,
    via: Annotated[
        str,
        typer.Option("--via", rich_help_panel=options.OUTPUT,
                     help="lora-B: fold the factor into lora_B, which every server reads; alpha-pattern: leave the "
                     "tensors alone and set alpha_pattern, which several ignore."),
    ] = "lora-B",
    bake_alpha_pattern: Annotated[
        bool,
        typer.Option("--bake-alpha-pattern", help="Fold an alpha_pattern that is there already, and drop it.",
                     rich_help_panel=options.OUTPUT),
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Write factors as float32, float16 or bfloat16.", show_default="as they are",
                     rich_help_panel=options.OUTPUT),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Directory to write.", show_default="ADAPTER-rescaled",
                     rich_help_panel=options.OUTPUT),
    ] = None,
    force: options.FORCE = False,
    format: options.FORMAT = "text",
    revision: options.REVISION = None,
    offline: options.OFFLINE = False,
    seed: options.SEED = 0,
    quiet: options.QUIET = False,
    config: options.CONFIG = None,
) -> None:  # fmt: skip
    """Pt on its own: make a trained adapter as strong as its base (equation 12), without training.

    The factor is computed in float64 on the small matrices and checked on what was written. Running it again changes
    nothing, unless a cap or a fixed factor stands in its way. Heads saved with the adapter are left as they are.
    """
    from rora_cli.cli import delivery
    from rora_cli.cli.console import make_progress
    from rora_cli.commands import rescale
    from rora_cli.reports.terminal import rescale as report

    delivery.require_format(format)
    resolved = rescale.RescaleConfig(
        adapter=adapter,
        base=base,
        output=output,
        layers=layers,
        strength=strength,
        factor=factor,
        cap=cap,
        via=via,
        bake_alpha_pattern=bake_alpha_pattern,
        dtype=dtype,
        clean=clean,
        max_accuracy_drop=max_accuracy_drop,
        text_column=text_column,
        label_column=label_column,
        label_map=options.label_map(label_map),
        data_revision=data_revision,
        max_rows=max_rows,
        revision=revision,
        offline=offline,
        seed=seed,
        force=force,
    )
    result = rescale.run(resolved, make_progress(quiet))
    delivery.deliver(result, format=format, text=lambda: report.render(result, **options.terminal()), output=None)
