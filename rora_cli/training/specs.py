"""What a training run is told: adapter, regularisers, rescaling, steps. Frozen and checked; no torch.

Each field stands beside the option that sets it. The defaults are the paper's control, plain LoRA (arXiv:2601.06305,
section 5); a recipe changes some of them (``defences.recipes``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

from rora_cli.errors import UsageError
from rora_cli.option_groups import AccuracyLimit
from rora_cli.options import FRACTION, Option, Options, commas

VARIANTS = ("lora", "rslora", "dora", "pissa", "olora")
#: PiSSA and OLoRA start from factors of W itself and take them out of the base weight.
SPLITTING = ("pissa", "olora")
#: Those whose training needs no weight whole.
SHARDABLE_VARIANTS = ("lora", "rslora")
SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

Spec = TypeVar("Spec", bound=Options)


@dataclass(frozen=True, kw_only=True)
class AdapterSpec(Options):
    """The LoRA that is trained.

    No ``target_modules`` means query and value, ``("all-linear",)`` every linear layer of the blocks.
    """

    variant: Annotated[str, Option("Kind of adapter.", choices=VARIANTS)] = "lora"
    rank: Annotated[
        int, Option("Rank r of the update: lora_B [d_out, r] lora_A [r, d_in].", ("--rank", "-r"), low=1)
    ] = 8
    alpha: Annotated[float, Option("lora_alpha: the update is scaled by alpha / r.", above=0)] = 16.0
    lora_dropout: Annotated[float, Option("Dropout on the adapter's input.", low=0, below=1, unit=FRACTION)] = 0.1
    target_modules: Annotated[
        tuple[str, ...],
        Option(
            "Layers to adapt: names with commas between them, or all-linear.",
            metavar="NAMES",
            shown="query and value",
            read=commas,
        ),
    ] = ()
    freeze_head: Annotated[bool, Option("Leave the classification head as it is.")] = False


@dataclass(frozen=True, kw_only=True)
class RegulariserSpec(Options):
    """The regularisers Cl and Tr; 0 switches one off (arXiv:2601.06305, section 4)."""

    cl: Annotated[
        float,
        Option(
            "Cl: probability of dropping an output of the frozen weight, in training, so that the adapter learns to do "
            "without it. Paper .1, searched over .05 .1 .15 .2 .3.",
            low=0,
            below=1,
            unit=FRACTION,
        ),
    ] = 0.0
    tr: Annotated[
        float,
        Option(
            "Tr: weight of the penalty on the update's share in the top singular directions of the frozen weight "
            "(Eq. 10, 11). Paper 10, searched over 1 5 10 15 20.",
            low=0,
        ),
    ] = 0.0
    tr_k: Annotated[
        int, Option("Tr: how many top singular directions; below the smaller side of the weight.", low=1)
    ] = 32
    tr_reduction: Annotated[
        str, Option("Tr: how the penalties of the adapted layers become one.", choices=("mean", "sum"))
    ] = "mean"


@dataclass(frozen=True, kw_only=True)
class RescalingSpec(AccuracyLimit):
    """The rescaling Pt of a trained update (arXiv:2601.06305, Eq. 12)."""

    pt: Annotated[
        float,
        Option(
            "Pt: share of Eq. 12's factor sigma_max(W) / sigma_max(update) that the trained update is scaled by; 0 is "
            "off. Paper 1.",
            low=0,
        ),
    ] = 0.0
    pt_layers: Annotated[
        str,
        Option(
            "Pt: the blocks that it scales: topN, all, or numbers such as 0,2,9-11; a decoder's follow its encoder's.",
            metavar="BLOCKS",
        ),
    ] = "top3"
    pt_cap: Annotated[float | None, Option("Pt: largest factor; inf for none.", low=1, infinite=True)] = 10.0
    pt_guard: Annotated[
        bool,
        Option("Pt: halve the strength while clean accuracy falls too far.", ("--pt-guard/--no-pt-guard",)),
    ] = True


@dataclass(frozen=True, kw_only=True)
class TrainSpec(Options):
    """How long, how fast and in what pieces a run trains.

    ``batch_size`` is global, over processes and accumulation steps; ``micro_batch_size`` limits one forward pass.
    ``checkpoint_every`` comes on top of one snapshot at the end of every epoch.
    """

    epochs: Annotated[int, Option("Epochs of each training run.", low=1)] = 20
    batch_size: Annotated[int, Option("Rows of one optimizer step, over all processes.", low=1)] = 32
    micro_batch_size: Annotated[
        int | None, Option("Rows of one forward pass: fewer take less memory.", low=1, shown="all of the batch")
    ] = None
    learning_rate: Annotated[float, Option("Peak learning rate of AdamW.", ("--learning-rate", "--lr"), above=0)] = 2e-4
    weight_decay: Annotated[float, Option("AdamW's decay of weights; biases and norms are not decayed.", low=0)] = 0.01
    schedule: Annotated[str, Option("How the learning rate falls after the warm-up.", choices=SCHEDULES)] = "linear"
    warmup_ratio: Annotated[
        float, Option("Share of the steps with a rising learning rate.", low=0, below=1, unit=FRACTION)
    ] = 0.0
    max_grad_norm: Annotated[float, Option("The gradient's norm is clipped to this.", above=0)] = 1.0
    precision: Annotated[
        str,
        Option(
            "Of the forward pass: fp32, or mixed with bf16 or fp16 (fp16 needs a GPU). auto: bf16 where the device "
            "computes in it, as processors with AVX-512 BF16 or AMX do, else fp32.",
            choices=PRECISIONS,
        ),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool, Option("Compute activations anew in the backward pass: less memory, more time.")
    ] = False
    checkpoint_every: Annotated[
        int | None, Option("Steps between saved states, for --resume.", low=1, shown="once an epoch")
    ] = None
    seed: Annotated[int, Option("Seed of everything random.", low=0)] = 0


def spec_of(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """The specification with those of ``values`` that it has a field for. Raises UsageError with the wrong option."""
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def require_penalisable(variant: str) -> None:
    """Raise UsageError for an adapter variant on which Tr makes no sense."""
    if variant in SPLITTING:
        raise UsageError(
            f"--tr cannot be combined with the adapter variant {variant}: its factors start inside W's top singular "
            "subspace, which Tr forbids; use lora, rslora or dora, or --tr 0"
        )


def require_rescalable(variant: str) -> None:
    """Raise UsageError for an adapter variant whose update Pt cannot scale."""
    if variant == "dora":
        raise UsageError(
            "--pt cannot be combined with the adapter variant dora: its magnitude renormalises W + s BA, so that "
            "scaling lora_B does not scale the update; use lora or rslora, or --pt 0"
        )
