"""``rora purify``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rora_cli.cli import delivery, options
from rora_cli.errors import ExitCode

if TYPE_CHECKING:
    from rora_cli.progress import Progress

_TRAIN, _RORA, _ADAPTER, _SEARCH = "Training", "RoRA (arXiv:2601.06305)", "Adapter", "Search and verdict"
_CONTROLS = "Controls (other ways that the field cleanses weights)"

VERDICT_CODES = {
    "pass": ExitCode.OK,
    "not assessed": ExitCode.OK,
    "fail": ExitCode.FINDINGS,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


def command(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="The suspect: a directory, or a hub id.", metavar="MODEL")],
    clean: Annotated[
        str,
        typer.Option(
            "--clean",
            metavar="DATA",
            help="Clean rows: [bold]bundled[/], a file or directory, sst2, ag_news, ..., or a hub id owner/name.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Directory to write.",
            show_default="<MODEL>-rora",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="[bold]default[/]: search, harden, search again. [bold]paper[/]: RoRA to the letter. "
            "Controls: [bold]lora[/], [bold]full[/], [bold]mix[/], [bold]reinit[/], [bold]crow[/], "
            "[bold]fine-pruning[/].",
        ),
    ] = "default",
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="ADAPTER", help="A suspect adapter on MODEL, its base.")
    ] = None,
    revision: options.REVISION = None,
    config: options.CONFIG = None,
    seed: options.SEED = 0,
    quiet: options.QUIET = False,
    text_column: options.TEXT_COLUMN = None,
    label_column: options.LABEL_COLUMN = None,
    label_map: options.LABEL_MAP = None,
    data_revision: options.DATA_REVISION = None,
    dev_fraction: Annotated[
        float,
        typer.Option(help="Share of train held out where the data has no such split.", rich_help_panel=options.DATA),
    ] = 0.2,
    max_train_rows: options.MAX_TRAIN_ROWS = None,
    max_held_out_rows: options.MAX_HELD_OUT_ROWS = 2000,
    cl: Annotated[
        float | None,
        typer.Option(
            help="Cl: drop probability on the frozen branch's output, in training. Paper .1; grid .05 .1 .15 .2 .3.",
            rich_help_panel=_RORA,
        ),
    ] = None,
    tr: Annotated[
        float | None,
        typer.Option(
            help="Tr: strength of the subspace penalty (Eq. 10, 11). Paper 10; grid 1 5 10 15 20.",
            rich_help_panel=_RORA,
        ),
    ] = None,
    tr_k: Annotated[
        int | None,
        typer.Option(
            help="Tr: singular directions of W that are kept clear; below min(d).",
            show_default="32",
            rich_help_panel=_RORA,
        ),
    ] = None,
    tr_reduction: Annotated[
        str | None,
        typer.Option(help="Tr: mean or sum over the adapted modules.", show_default="mean", rich_help_panel=_RORA),
    ] = None,
    pt: Annotated[
        float | None,
        typer.Option(
            help="Pt: share of Eq. 12's factor that the trained update is scaled by; 0 is off. Paper 1.",
            rich_help_panel=_RORA,
        ),
    ] = None,
    pt_layers: Annotated[
        str | None,
        typer.Option(
            help="Pt: topN, all, or block numbers such as 0,2,9-11; a decoder's follow its encoder's.",
            show_default="top3",
            rich_help_panel=_RORA,
        ),
    ] = None,
    pt_cap: Annotated[
        float | None,
        typer.Option(
            help="Pt: largest factor; inf for none.", show_default="10; recipe paper: none", rich_help_panel=_RORA
        ),
    ] = None,
    pt_guard: Annotated[
        bool | None,
        typer.Option(
            "--pt-guard/--no-pt-guard",
            help="Pt: halve the strength while clean accuracy falls too far.",
            show_default="on; recipe paper: off",
            rich_help_panel=_RORA,
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="Clean accuracy that may be lost, in points; twice that for one class. More fails the run.",
            rich_help_panel=_SEARCH,
        ),
    ] = 1.0,
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="A trigger that you know of, to be trained away as well.", rich_help_panel=_SEARCH
        ),
    ] = None,
    max_rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds of search and training.", show_default="3", rich_help_panel=_SEARCH),
    ] = None,
    search_budget: Annotated[
        str,
        typer.Option(
            help="How thoroughly triggers are searched for: fast; normal, at two to four times the cost; thorough; "
            "auto: fast, then normal for a label that it leaves undecided.",
            rich_help_panel=_SEARCH,
        ),
    ] = "auto",
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A trusted pretrained encoder, or a clean classifier, that honest words are told from triggers by: a "
            "directory or a hub id, best the model that the suspect was trained from.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    escalate: Annotated[
        str,
        typer.Option(
            help="What may be done to the model's own weights where no whole trigger is found. reference: take all "
            "blocks or the upper ones from the reference's encoder, and teach it all the task anew; auto: that, or "
            "else draw the upper blocks anew; none.",
            rich_help_panel=_SEARCH,
        ),
    ] = "auto",
    variant: Annotated[
        str | None,
        typer.Option(help="lora, rslora, dora, pissa or olora.", show_default="lora", rich_help_panel=_ADAPTER),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option("--rank", "-r", help="Rank.", show_default="8; recipe default 16", rich_help_panel=_ADAPTER),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="lora_alpha.", show_default="16; recipe default 32", rich_help_panel=_ADAPTER)
    ] = None,
    lora_dropout: Annotated[
        float | None, typer.Option(help="Dropout on the adapter's input.", show_default=".1", rich_help_panel=_ADAPTER)
    ] = None,
    target_modules: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names, or all-linear.",
            show_default="query and value; recipe default all-linear",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    freeze_head: Annotated[
        bool, typer.Option("--freeze-head", help="Leave the classification head as it is.", rich_help_panel=_ADAPTER)
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs (of each round).",
            show_default="3, more on few rows; mix: 3; others: 20",
            rich_help_panel=_TRAIN,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Rows of one optimizer step, over all processes.", show_default="32", rich_help_panel=_TRAIN),
    ] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows of one forward pass: less memory.", rich_help_panel=_TRAIN)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            help="",
            show_default="5e-4; paper and lora: 2e-4; full: 5e-5",
            rich_help_panel=_TRAIN,
        ),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="", show_default=".01", rich_help_panel=_TRAIN)] = None,
    schedule: Annotated[
        str | None, typer.Option(help="linear, cosine or constant.", show_default="linear", rich_help_panel=_TRAIN)
    ] = None,
    warmup_ratio: Annotated[
        float | None,
        typer.Option(help="Share of the steps with a rising rate.", show_default="0", rich_help_panel=_TRAIN),
    ] = None,
    max_grad_norm: Annotated[
        float, typer.Option(help="Gradient norm is clipped to this.", rich_help_panel=_TRAIN)
    ] = 1.0,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of a row.", show_default="what the model reads", rich_help_panel=_TRAIN),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (GPU only).", rich_help_panel=_TRAIN)] = "fp32",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.", rich_help_panel=_TRAIN)
    ] = False,
    ancestor: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The clean model that the suspect was trained from, to be mixed in (recipes default and mix).",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    suspect_share: Annotated[
        float | None,
        typer.Option(help="mix: the suspect's share of every weight.", show_default=".4", rich_help_panel=_CONTROLS),
    ] = None,
    share_by_block: Annotated[
        str | None,
        typer.Option(
            help="mix: even; lower or upper: half as much again in the first or the last block, falling off linearly.",
            show_default="even",
            rich_help_panel=_CONTROLS,
        ),
    ] = None,
    reinit_blocks: Annotated[
        int | None,
        typer.Option(help="reinit: top blocks that are drawn anew.", show_default="2", rich_help_panel=_CONTROLS),
    ] = None,
    consistency: Annotated[
        float | None,
        typer.Option(help="crow: weight alpha of the consistency.", show_default="5.5", rich_help_panel=_CONTROLS),
    ] = None,
    perturbation: Annotated[
        float | None,
        typer.Option(
            help="crow: size epsilon of the embeddings' perturbation.", show_default=".1", rich_help_panel=_CONTROLS
        ),
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(
            help="fine-pruning: largest share of neurons to cut; fewer where accuracy would fall.",
            show_default=".9",
            rich_help_panel=_CONTROLS,
        ),
    ] = None,
    device: options.DEVICE = "auto",
    num_processes: Annotated[
        int,
        typer.Option(
            min=1, help="Processes on this machine, one a GPU (or CPU processes).", rich_help_panel=options.RUN
        ),
    ] = 1,
    accelerate_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take processes, precision and devices from a config of accelerate's; options given here win.",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    offline: options.OFFLINE = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from an interrupted run with the same options.", rich_help_panel=options.RUN
        ),
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps between saved states.", show_default="once an epoch", rich_help_panel=options.RUN
        ),
    ] = None,
    force: options.FORCE = False,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Write no merged model.", rich_help_panel=options.OUTPUT)
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="Of the merged model: float32, bfloat16, float16, or auto (the suspect's).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = "float32",
    format: options.FORMAT = "text",
) -> None:
    """Cleanse a suspect classifier of a backdoor, on clean data and without knowing the trigger.

    Writes a merged model, the adapter, [bold]rora-report.json[/] and a model card to DIR, whole or not at all. Exit
    codes: 0 pass, or a recipe that does not search for triggers is done; 1 fail; 2 bad input; 3 inconclusive.

    [bold]rora purify[/] suspect-model --clean sst2
    """
    delivery.require_format(format)
    from rora_cli.cli.console import make_progress
    from rora_cli.commands.purify import run
    from rora_cli.defences.config import PurifyConfig
    from rora_cli.reports.terminal import purify as report

    names = set(PurifyConfig.__dataclass_fields__)
    given: dict[str, Any] = {name: value for name, value in ctx.params.items() if name in names}
    given |= {
        "output": str(output) if output else None,
        "allow_download": not offline,
        "label_map": options.label_map(label_map),
        "triggers": tuple(trigger or ()),
        "target_modules": tuple(name.strip() for name in (target_modules or "").split(",") if name.strip()),
    }
    progress = make_progress(quiet)
    given |= _launch_settings(ctx, accelerate_config, progress)
    result = run(PurifyConfig(**given), progress)
    delivery.deliver(result, format=format, text=lambda: report.render(result, **options.terminal()), output=None)
    raise typer.Exit(VERDICT_CODES[result.verdict])


def _launch_settings(ctx: typer.Context, file: Path | None, progress: Progress) -> dict[str, Any]:
    """Processes, precision and device as accelerate's config or launcher asks for, where no option says otherwise."""
    from rora_cli.cli import launching
    from rora_cli.ranks import world_size

    launch = launching.read_launch(file) if file is not None else launching.Launch()
    asked = {
        "num_processes": launch.processes if world_size() == 1 else None,
        "precision": launch.precision or launching.launcher_precision(),
        "device": launch.device,
    }
    if launch.gpu_ids is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = launch.gpu_ids
    if launch.unused:
        progress.warn(f"{file}: not used: {', '.join(launch.unused)}")
    if file is None and launching.starts_one_for_several() and ctx.params["num_processes"] == 1:
        progress.warn(
            "accelerate's launcher has started one process, though it was told of several: on CPUs it needs MPI; use "
            "--num-processes, --accelerate-config or torchrun"
        )
    given = {name for name in asked if getattr(ctx.get_parameter_source(name), "name", "") != "DEFAULT"}
    for name in sorted(given):
        if asked[name] is not None and ctx.params[name] not in (asked[name], "auto"):
            option = f"--{name.replace('_', '-')} {ctx.params[name]}"
            progress.note(f"{option} is used, where accelerate's settings ask for {asked[name]}")
    return {name: value for name, value in asked.items() if value is not None and name not in given}
