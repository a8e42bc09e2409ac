"""What to diagnose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rora_cli.attacks.triggers import POSITIONS
from rora_cli.errors import UsageError
from rora_cli.option_groups import AccuracyLimit, DataOptions, HubOptions, SeedOption, SeverityGate
from rora_cli.options import POINTS, Option


@dataclass(frozen=True, kw_only=True)
class MarginOptions(DataOptions, AccuracyLimit):
    """On which rows margins are measured."""

    panel: ClassVar[str] = "Margins: what the adapter does to rows of data (runs the model)"

    clean: Annotated[
        str | None,
        Option(
            "Run base and adapter on these rows: alignment of margins, and how far the scale may go.", metavar="DATA"
        ),
    ] = None
    trigger: Annotated[
        str | None,
        Option(
            "Also with this trigger in (or badnet, insent): which scale would make the model forget it.", metavar="TEXT"
        ),
    ] = None
    target_label: Annotated[str | None, Option("The label that the trigger gives.", metavar="LABEL")] = None
    position: Annotated[str, Option("Where the trigger goes.", choices=POSITIONS)] = "random"
    max_rows: Annotated[int, Option("Rows to use at most.", metavar="N", low=1)] = 256
    max_accuracy_drop: Annotated[
        float,
        Option(
            "Clean accuracy, to first order, that a larger scale may cost.",
            metavar="POINTS",
            low=0,
            high=100,
            unit=POINTS,
        ),
    ] = 1.0


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig(SeverityGate, MarginOptions, HubOptions, SeedOption):
    """What to diagnose. ``cache`` is where spectra of bases are kept, if anywhere."""

    paths: Annotated[
        tuple[str, ...],
        Option(
            "Adapter directories or .safetensors files, hub ids, patterns of paths; with --base also models.",
            metavar="PATH",
            argument=True,
        ),
    ]
    base: Annotated[
        str | None, Option("The base model: adds strength, alignment and the right null.", metavar="MODEL")
    ] = None
    calibrate: Annotated[
        Path | None,
        Option(
            "Known-good adapters of the same base, from which thresholds are learned and stored there as "
            "rora-calibration.json; or such a file. Without it, spectral findings are information only.",
            metavar="DIR|FILE",
        ),
    ] = None
    top_k: Annotated[
        int, Option("Width k of the top singular subspaces of W (the paper's k is 32).", low=1, high=1024)
    ] = 32
    intruders: Annotated[bool, Option("Count intruder dimensions as well (two full SVDs a module: slow).")] = False
    workers: Annotated[int, Option("Adapters read at once, for many paths.", metavar="N", low=1, high=256)] = 1
    revision: Annotated[
        str | None, Option("Branch, tag or commit of PATHs on the hub; not of the base.", metavar="REV")
    ] = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.paths:
            raise UsageError("no path is given; name at least one adapter directory or file")
        if self.intruders and self.base is None:
            raise UsageError("--intruders compares with the base's singular vectors; give --base as well")
        if self.clean is not None and (self.base is None or len(self.paths) != 1):
            raise UsageError("--clean runs one adapter on its base: give --base and a single adapter")
        if (self.trigger is None) != (self.target_label is None):
            raise UsageError("--trigger and --target-label belong together: give both or neither")
        if self.trigger is not None and self.clean is None:
            raise UsageError("--trigger puts the trigger into rows of data: give them with --clean")
