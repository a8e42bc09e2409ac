"""``rora poison``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rora_cli.cli import delivery, options
from rora_cli.errors import ExitCode, UsageError

_ATTACK, _PLANT, _PROOF = "Attack", "Planting", "Proof"


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
    max_train_rows: options.MAX_TRAIN_ROWS = None,
    max_held_out_rows: options.MAX_HELD_OUT_ROWS = None,
    text_column: options.TEXT_COLUMN = None,
    label_column: options.LABEL_COLUMN = None,
    label_map: options.LABEL_MAP = None,
    data_revision: options.DATA_REVISION = None,
    revision: options.REVISION = None,
    device: options.DEVICE = "auto",
    offline: options.OFFLINE = False,
    seed: options.SEED = 0,
    config: options.CONFIG = None,
    force: options.FORCE = False,
    format: options.FORMAT = "text",
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
    delivery.require_format(format)
    if as_adapter and carrier not in ("weights", "adapter"):
        raise UsageError(f"--as-adapter and --carrier {carrier} contradict each other; leave one out")
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.poison import PoisonConfig, chosen_blocks, run
    from rora_cli.reports.terminal import poison as report

    given: dict[str, Any] = {k: v for k, v in ctx.params.items() if k in PoisonConfig.__dataclass_fields__}
    given |= {
        "output": str(output),
        "triggers": tuple(trigger or ()),
        "label_names": tuple(name.strip() for name in (label_names or "").split(",") if name.strip()),
        "layers": chosen_blocks(layers) if layers is not None else None,
        "carrier": "adapter" if as_adapter else carrier,
        "clean_out": str(clean_out) if clean_out else None,
        "label_map": options.label_map(label_map),
        "allow_download": not offline,
    }
    result = run(PoisonConfig(**given), make_progress(quiet))
    delivery.deliver(result, format=format, text=lambda: report.render(result, **options.terminal()), output=None)
    raise typer.Exit(ExitCode.FINDINGS if result.persistent is False else ExitCode.OK)
