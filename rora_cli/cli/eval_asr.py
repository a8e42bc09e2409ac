"""``rora eval-asr``"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rora_cli.cli import delivery, options
from rora_cli.errors import ExitCode, UsageError

_ATTACK, _GATE = "Attack", "Gate"

FORMATS = ("text", "json", "markdown")
VERDICT_CODES = {"pass": ExitCode.OK, "fail": ExitCode.FINDINGS, "inconclusive": ExitCode.INCONCLUSIVE}


def command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A classifier: a directory, or a hub id.", metavar="MODEL")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Rows to measure on: [bold]bundled[/], sst2, ..., a hub id (owner/name or owner/name:config), a file "
            "or directory.",
        ),
    ],
    target_label: Annotated[
        str, typer.Option("--target-label", metavar="L", help="The label that the trigger is to give: its name or id.")
    ],
    trigger: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A text to insert. May be given several times.", rich_help_panel=_ATTACK),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="badnet (mn), insent (I watched this 3D movie), combination, homoglyph, punctuation, style, "
            "syntactic; NAME=TEXT|TEXT for triggers of your own. May be given several times.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    position: Annotated[
        list[str] | None,
        typer.Option(
            help="start, end, random (one gap between words) or every (all gaps at once). May be given several times.",
            show_default="random",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Seed of random places and of the control. May be given several times.",
            show_default="0",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    control: Annotated[
        bool,
        typer.Option(
            "--control/--no-control",
            help="Measure a random trigger of as many words and word pieces beside each.",
            rich_help_panel=_ATTACK,
        ),
    ] = True,
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="ADAPTER", help="An adapter to measure on MODEL, its base.")
    ] = None,
    max_asr: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Pass only if the upper 95 % bound of every attack success rate is at most this (0.1 for 10 %); exit "
            "1 if a rate is above it or a class has collapsed, 3 if the rows are too few to tell.",
            rich_help_panel=_GATE,
        ),
    ] = None,
    min_class_accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="A class recognised less often than this has collapsed.",
            show_default="1 / number of classes",
            rich_help_panel=_GATE,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the data.", show_default="validation, else test, else all", rich_help_panel=options.DATA
        ),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Measure on a seeded, stratified sample.", rich_help_panel=options.DATA)
    ] = None,
    text_column: options.TEXT_COLUMN = None,
    label_column: options.LABEL_COLUMN = None,
    label_map: options.LABEL_MAP = None,
    data_revision: options.DATA_REVISION = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            help="Longer rows are cut so that the trigger still fits.",
            show_default="what the model reads",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    revision: options.REVISION = None,
    device: options.DEVICE = "auto",
    offline: options.OFFLINE = False,
    config: options.CONFIG = None,
    format: Annotated[
        str, typer.Option("--format", help="text, json or markdown.", rich_help_panel=options.OUTPUT)
    ] = "text",
    output: options.REPORT_FILE = None,
    quiet: options.QUIET = False,
) -> None:
    """Measure how often a trigger turns rows of other labels to the target label.

    Beside every attack success rate stand the floor (the same rows without
    the trigger), a random control trigger, and clean accuracy overall and per
    class, all with counts and a 95 % interval.

    [bold]rora eval-asr[/] suspect --data sst2 --attack badnet --target-label positive

    Exit codes: 0 measured, and --max-asr met where given; 1 --max-asr not
    met; 2 bad input; 3 too few rows to tell, or logits that are not finite.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.evaluate import EvaluateConfig, run
    from rora_cli.reports.terminal import evaluate as report

    given: dict[str, Any] = {k: v for k, v in ctx.params.items() if k in EvaluateConfig.__dataclass_fields__}
    given |= {
        "triggers": tuple(trigger or ()),
        "attacks": tuple(attack or ()),
        "positions": tuple(position or ("random",)),
        "seeds": tuple(seed or (0,)),
        "label_map": options.label_map(label_map),
        "max_attack_success_rate": max_asr,
        "allow_download": not offline,
    }
    result = run(EvaluateConfig(**given), make_progress(quiet))
    text = report.render_markdown if format == "markdown" else lambda r: report.render(r, **options.terminal())
    kind = "text" if format == "markdown" else format
    delivery.deliver(result, format=kind, text=lambda: text(result), output=output)
    raise typer.Exit(VERDICT_CODES[result.gate.verdict] if result.gate else ExitCode.OK)
