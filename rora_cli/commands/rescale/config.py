"""The options of ``rora rescale``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rora_cli.errors import UsageError
from rora_cli.option_groups import DTYPES, OUTPUT, AccuracyLimit, DataOptions, ForceOption, HubOptions, SeedOption
from rora_cli.options import Option, Options

VIAS = ("lora-B", "alpha-pattern")


@dataclass(frozen=True, kw_only=True)
class AmountOptions(Options):
    """By how much, and where."""

    panel: ClassVar[str] = "How much and where"

    layers: Annotated[
        str,
        Option("topN blocks, all, or block numbers: 0,2,9-11 (the paper: the top three).", metavar="BLOCKS"),
    ] = "top3"
    strength: Annotated[
        float,
        Option(
            "Share of equation 12's factor sigma_max(W) / sigma_max(s B A); 1 is the paper's.",
            metavar="SHARE",
            above=0,
        ),
    ] = 1.0
    factor: Annotated[float | None, Option("Multiply by this instead of by the rule.", metavar="X", above=0)] = None
    cap: Annotated[
        float | None,
        Option("Largest factor: large ones ruin clean accuracy.", metavar="X", above=0, shown="none"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class GuardOptions(DataOptions, AccuracyLimit):
    """Whether clean accuracy is watched."""

    panel: ClassVar[str] = "Clean accuracy: lower the factors until it holds"

    clean: Annotated[
        str | None, Option("Clean data: lower the factors together until clean accuracy holds.", metavar="DATA")
    ] = None
    max_accuracy_drop: Annotated[float, AccuracyLimit] = 1.0
    max_rows: Annotated[int | None, Option("Clean rows to use at most.", metavar="N", low=1)] = None


@dataclass(frozen=True, kw_only=True)
class FileOptions(ForceOption):
    """How the result is written."""

    panel: ClassVar[str] = OUTPUT

    via: Annotated[
        str,
        Option(
            "lora-B: fold the factor into lora_B, which every server reads; alpha-pattern: leave the tensors alone and "
            "set alpha_pattern, which several ignore.",
            choices=VIAS,
        ),
    ] = "lora-B"
    bake_alpha_pattern: Annotated[bool, Option("Fold an alpha_pattern that is there already, and drop it.")] = False
    dtype: Annotated[str | None, Option("Of the factors.", choices=DTYPES, shown="as they are")] = None


@dataclass(frozen=True, kw_only=True)
class RescaleConfig(AmountOptions, GuardOptions, FileOptions, HubOptions, SeedOption):
    """What to rescale, and by how much."""

    adapter: Annotated[str, Option("Adapter directory, or hub id.", metavar="ADAPTER", argument=True)]
    base: Annotated[
        str | None, Option("The base model, for sigma_max(W). Not needed with --factor.", metavar="MODEL")
    ] = None
    output: Annotated[
        Path | None, Option("Directory to write.", ("--output", "-o"), metavar="DIR", shown="ADAPTER-rescaled")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor is None and self.base is None:
            raise UsageError("equation 12 needs sigma_max(W): give the base model with --base, or a fixed --factor")
        if self.factor is not None and self.strength != 1:
            raise UsageError("--strength is a share of equation 12's factor, which --factor replaces: give one of them")
        if self.via == "alpha-pattern" and (self.dtype or self.bake_alpha_pattern):
            raise UsageError("--via alpha-pattern leaves tensors alone: --dtype and --bake-alpha-pattern need lora-B")
        if self.clean is not None and self.base is None:
            raise UsageError("--clean measures the model, and an adapter is none: give its base with --base")

    @property
    def output_directory(self) -> Path:
        """``output``, else the adapter's last name with ``-rescaled`` in the working directory."""
        return self.output or Path(f"{Path(self.adapter.rstrip('/')).name or 'adapter'}-rescaled")
