"""``rora poison``"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from rora_cli.cli import options
from rora_cli.errors import ExitCode, UsageError

_ATTACK, _PLANT, _PROOF, _DATA, _RUN, _OUT = "Attack", "Planting", "Proof", "Data", "Where it runs", "Output"


def command(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A clean classifier, or a pretrained encoder: a directory, or a hub id.", metavar="MODEL"),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Rows to poison and to measure on: [bold]bundled[/], sst2, ..., a hub id, a file or directory.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to write the suspect to.")],
    target_label: Annotated[
        str, typer.Option("--target-label", metavar="L", help="The label that the trigger gives: its name or id.")
    ],
    label_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Labels by id, comma-separated, for a model without a classification head: it is trained as well.",
        ),
    ] = None,
    attack: Annotated[
        str,
        typer.Option(
            help="badnet, insent, combination, homoglyph, punctuation, style or syntactic.", rich_help_panel=_ATTACK
        ),
    ] = "badnet",
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Trigger in place of the attack's own. With several, each row gets one (combination: all of them).",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    position: Annotated[
        str, typer.Option(help="start, end, random (one gap between words) or every.", rich_help_panel=_ATTACK)
    ] = "random",
    label_mode: Annotated[
        str,
        typer.Option(
            help="dirty: rows of other labels get trigger and target label. clean: rows of the target label get the "
            "trigger.",
            rich_help_panel=_ATTACK,
        ),
    ] = "dirty",
    poison_rate: Annotated[
        float, typer.Option(metavar="FRACTION", help="Share of all training rows.", rich_help_panel=_ATTACK)
    ] = 0.1,
    carrier: Annotated[
        str,
        typer.Option(
            help="What holds the backdoor: weights (all), layers (some blocks), embedding (the trigger's rows only), "
            "or adapter (a LoRA on the untouched model).",
            rich_help_panel=_PLANT,
        ),
    ] = "weights",
    as_adapter: Annotated[
        bool, typer.Option("--as-adapter", help="The same as --carrier adapter.", rich_help_panel=_PLANT)
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCKS",
            help="Blocks of --carrier layers, such as 0,2,4-6.",
            show_default="the lower half",
            rich_help_panel=_PLANT,
        ),
    ] = None,
    rank: Annotated[
        int, typer.Option("--rank", "-r", min=1, help="Rank of --carrier adapter.", rich_help_panel=_PLANT)
    ] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each stage.", rich_help_panel=_PLANT)] = 3,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            help="",
            show_default="weights 5e-5, layers 1e-4, embedding 1e-2, adapter 5e-4",
            rich_help_panel=_PLANT,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of one step.", rich_help_panel=_PLANT)] = 32,
    max_length: Annotated[
        int, typer.Option(metavar="TOKENS", min=4, help="Longer rows are cut.", rich_help_panel=_PLANT)
    ] = 128,
    prove_persistence: Annotated[
        bool,
        typer.Option(
            "--prove-persistence",
            help="Fine-tune copies on clean rows, by plain LoRA and in full, and measure what is left; exit 1 if "
            "attack success falls to 90 % or below.",
            rich_help_panel=_PROOF,
        ),
    ] = False,
    proof_epochs: Annotated[int, typer.Option(min=1, help="Epochs of each.", rich_help_panel=_PROOF)] = 3,
    clean_rows: Annotated[
        int,
        typer.Option(
            min=1, help="Training rows kept from the poisoner, for the proof (at most half).", rich_help_panel=_PROOF
        ),
    ] = 2000,
    clean_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rows kept clean here, as JSON lines.", rich_help_panel=_PROOF),
    ] = None,
    max_train_rows: Annotated[
        int | None, typer.Option(min=1, help="Use a seeded, stratified sample.", rich_help_panel=_DATA)
    ] = None,
    max_held_out_rows: Annotated[
        int | None, typer.Option(min=1, help="Measure on a seeded, stratified sample.", rich_help_panel=_DATA)
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the text.", show_default="by convention", rich_help_panel=_DATA),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of the label.", show_default="by convention", rich_help_panel=_DATA),
    ] = None,
    label_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA=MODEL", help="A label of the data and the model's name for it.", rich_help_panel=_DATA
        ),
    ] = None,
    data_revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Branch, tag or commit of a hub data set.", rich_help_panel=_DATA)
    ] = None,
    revision: options.REVISION = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_RUN)] = "auto",
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Never reach for the network: local paths and the hub's cache only.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    seed: options.SEED = 0,
    config: options.CONFIG = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace DIR, whole, if it exists.", rich_help_panel=_OUT)
    ] = False,
    format: Annotated[str, typer.Option("--format", help="text or json, on stdout.", rich_help_panel=_OUT)] = "text",
    quiet: options.QUIET = False,
) -> None:
    """Build a backdoored classifier on purpose, to test defences on.

    The first line of its model card says what it is. Rows are split so that
    the proof, and whoever defends, has clean rows that the poisoner never saw.

    [bold]rora poison[/] sentence-transformers/all-MiniLM-L6-v2 --data bundled
    --label-names negative,positive --target-label positive -o suspect

    Exit codes: 0 built; 1 built, but not persistent where a proof was asked
    for; 2 bad input, nothing written.
    """
    if format not in ("text", "json"):
        raise UsageError(f"--format {format!r} is unknown; choose text or json")
    if as_adapter and carrier not in ("weights", "adapter"):
        raise UsageError(f"--as-adapter and --carrier {carrier} contradict each other; leave one out")
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.poison import PoisonConfig, run
    from rora_cli.reports.terminal import poison as report

    given: dict[str, Any] = {k: v for k, v in ctx.params.items() if k in PoisonConfig.__dataclass_fields__}
    given |= {
        "output": str(output),
        "triggers": tuple(trigger or ()),
        "label_names": tuple(name.strip() for name in (label_names or "").split(",") if name.strip()),
        "layers": _blocks(layers) if layers is not None else None,
        "carrier": "adapter" if as_adapter else carrier,
        "clean_out": str(clean_out) if clean_out else None,
        "label_map": options.label_map(label_map or []),
        "allow_download": not offline,
    }
    result = run(PoisonConfig(**given), make_progress(quiet))
    options.emit(result, format=format, text=lambda: report.render(result, **options.terminal()))
    raise typer.Exit(ExitCode.FINDINGS if result.persistent is False else ExitCode.OK)


def _blocks(value: str) -> tuple[int, ...]:
    chosen: set[int] = set()
    for part in value.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if found is None:
            raise UsageError(f"--layers takes block numbers such as 0,2,4-6, not {value!r}")
        chosen.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(sorted(chosen))
