"""Adapters through PEFT, and what each variant calls its frozen branch, its update and its base weight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.errors import UsageError

VARIANTS = ("lora", "rslora", "dora", "pissa", "olora")

#: PiSSA and OLoRA start from factors of W itself and take them out of the base weight.
_SPLITTING = ("pissa", "olora")

ADAPTER = "default"

#: Attention projections that stand for the paper's "query and value", most specific name first.
_QUERY_VALUE = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q", "v"),
    ("Wqkv",),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
    ("in_proj",),
)


@dataclass(frozen=True)
class AdapterSpec:
    """What is adapted, and how. No ``target_modules`` means query and value, ``("all-linear",)`` all linear layers."""

    variant: str = "lora"
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.1
    target_modules: tuple[str, ...] = ()
    train_head: bool = True

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(f"adapter variant {self.variant!r} is unknown; choose one of {', '.join(VARIANTS)}")
        if self.r < 1:
            raise UsageError(f"the rank must be at least 1, not {self.r}")
        if not 0 < self.alpha < float("inf"):
            raise UsageError(f"alpha must be positive and finite, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"LoRA dropout must be in [0, 1), not {self.dropout}")


@dataclass
class AdaptedLayer:
    """One adapted linear layer.

    ``module`` is PEFT's ``lora.Linear``. For PiSSA and OLoRA ``initial`` holds (B0, A0), which PEFT took out of the
    base weight, and ``original_weight`` the suspect's own weight, in the layout in which it is stored.
    """

    name: str
    module: Any
    variant: str
    initial: tuple[Tensor, Tensor] | None = None
    original_weight: Tensor | None = None

    @property
    def scaling(self) -> float:
        return float(self.module.scaling[ADAPTER])

    @property
    def lora_A(self) -> Tensor:
        """[r, d_in]"""
        return self.module.lora_A[ADAPTER].weight

    @property
    def lora_B(self) -> Tensor:
        """[d_out, r]"""
        return self.module.lora_B[ADAPTER].weight

    def base_weight(self) -> Tensor:
        """The suspect's own weight W [d_out, d_in], whatever the variant did to the layer's."""
        stored = self.original_weight if self.original_weight is not None else self.module.get_base_layer().weight
        return (stored.T if self.module.fan_in_fan_out else stored).detach()

    def frozen_output(self, base_output: Tensor, inputs: Tensor) -> Tensor:
        """What the frozen branch contributes to this layer's output, given the base layer's output for ``inputs``.

        LoRA, rsLoRA: W x (+ bias). DoRA: m / ||W + s BA|| * W x (+ bias), since the magnitude rescales the branch.
        PiSSA, OLoRA: W x of the suspect's own W, which is the base layer's output plus s B0 A0 x.
        """
        if self.initial is not None:
            b0, a0 = self.initial
            return base_output + (inputs.to(a0.dtype) @ a0.T @ b0.T * self.scaling).to(base_output.dtype)
        if self.variant == "dora":
            bias = self.module.get_base_layer().bias
            branch = base_output if bias is None else base_output - bias
            branch = branch * self._dora_scale().to(branch.dtype)
            return branch if bias is None else branch + bias
        return base_output

    def _dora_scale(self) -> Tensor:
        magnitude = self.module.lora_magnitude_vector[ADAPTER].weight
        merged = self.base_weight() + self.scaling * (self.lora_B @ self.lora_A).detach()
        return magnitude / merged.norm(dim=1)


def choose_targets(model: nn.Module, requested: Sequence[str]) -> str | list[str]:
    """PEFT's ``target_modules``: ``requested``, checked against the modules that exist, or else query and value."""
    if tuple(requested) == ("all-linear",):
        return "all-linear"
    leaves = {name.rpartition(".")[2] for name, module in model.named_modules() if is_linear(module)}
    if requested:
        missing = [name for name in requested if name.rpartition(".")[2] not in leaves]
        if missing:
            raise UsageError(
                f"--target-modules names {', '.join(missing)}, but the model's linear layers are "
                f"{', '.join(sorted(leaves))}"
            )
        return list(requested)
    for names in _QUERY_VALUE:
        if set(names) <= leaves:
            return list(names)
    raise UsageError(
        f"no query and value layers were recognised in a {type(model).__name__}; name some of "
        f"{', '.join(sorted(leaves))} with --target-modules"
    )


def attach(model: nn.Module, spec: AdapterSpec) -> tuple[nn.Module, list[AdaptedLayer]]:
    """Put a new adapter on ``model``, in place; returns PEFT's model and its adapted layers, in model order."""
    from peft import LoraConfig, TaskType, get_peft_model

    targets = choose_targets(model, spec.target_modules)
    smallest = min(min(m.weight.shape) for n, m in model.named_modules() if is_linear(m) and _matches(n, targets))
    if spec.r > smallest:
        raise UsageError(f"rank {spec.r} exceeds the smallest dimension, {smallest}, of the layers to be adapted")
    originals = {}
    if spec.variant in _SPLITTING:
        originals = {
            name: module.weight.detach().clone()
            for name, module in model.named_modules()
            if is_linear(module) and _matches(name, targets)
        }
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS if spec.train_head else None,
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets,
        use_rslora=spec.variant == "rslora",
        use_dora=spec.variant == "dora",
        init_lora_weights=spec.variant if spec.variant in _SPLITTING else True,
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
    )
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
        adapted = get_peft_model(model, config)
    return adapted, _adapted_layers(adapted, spec.variant, originals)


def _adapted_layers(model: nn.Module, variant: str, originals: dict[str, Tensor]) -> list[AdaptedLayer]:
    from peft.tuners.lora import LoraLayer

    layers = []
    for path, module in model.named_modules():
        if not isinstance(module, LoraLayer) or ADAPTER not in module.lora_A:
            continue
        name = path.removeprefix("base_model.model.")
        layer = AdaptedLayer(name, module, variant)
        if variant in _SPLITTING:
            layer.initial = (layer.lora_B.detach().clone(), layer.lora_A.detach().clone())
            layer.original_weight = originals[name]
        layers.append(layer)
    return layers


def to_plain_lora(model: nn.Module, layers: Sequence[AdaptedLayer]) -> None:
    """Turn trained PiSSA/OLoRA layers into plain LoRA of rank 2r on the suspect's own, restored weight, in place.

    DeltaW = s BA - s B0 A0 = s [B, -B0] [A; A0], so the result loads on the unchanged suspect everywhere. Other
    variants are left alone.
    """
    converted = [layer for layer in layers if layer.initial is not None]
    for layer in converted:
        assert layer.initial is not None and layer.original_weight is not None
        b0, a0 = layer.initial
        with torch.no_grad():
            wide_a = torch.cat([layer.lora_A, a0])
            wide_b = torch.cat([layer.lora_B, -b0], dim=1)
            layer.module.get_base_layer().weight.copy_(layer.original_weight)
        layer.module.lora_A[ADAPTER] = _linear_of(wide_a)
        layer.module.lora_B[ADAPTER] = _linear_of(wide_b)
        layer.module.r[ADAPTER] = wide_a.shape[0]
        layer.initial = layer.original_weight = None
        layer.variant = "lora"
    if converted:
        config = model.peft_config[ADAPTER]
        config.r, config.lora_alpha, config.init_lora_weights = 2 * config.r, 2 * config.lora_alpha, True


def trained_heads(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Each parameter that is trained in full beside the adapter (the head's), and its value before training."""
    from peft.utils import ModulesToSaveWrapper

    return [
        (weight, dict(module.original_module.named_parameters())[name].detach())
        for module in model.modules()
        if isinstance(module, ModulesToSaveWrapper)
        for name, weight in module.modules_to_save[ADAPTER].named_parameters()
    ]


def _linear_of(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        linear.weight.copy_(weight)
    return linear


def block_index(name: str) -> int | None:
    """The transformer block that a module belongs to: the first number in its dotted name; None outside the blocks."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(found.group(1)) if found else None


def select_layers(layers: Sequence[AdaptedLayer], which: str) -> list[AdaptedLayer]:
    """``top3`` (any ``topN``), ``all``, or block numbers such as ``0,2,9-11``: the adapted layers of those blocks."""
    blocks = sorted({index for layer in layers if (index := block_index(layer.name)) is not None})
    wanted: set[int]
    if which == "all":
        return list(layers)
    if found := re.fullmatch(r"top(\d+)", which):
        count = int(found.group(1))
        wanted = set(blocks[-count:]) if count else set()
    else:
        wanted = _parse_blocks(which)
        if missing := wanted - set(blocks):
            raise UsageError(
                f"layers {which!r} names block {min(missing)}, but adapted blocks are {blocks[0]} to {blocks[-1]}"
                if blocks
                else f"layers {which!r} names blocks, but no adapted module stands in a numbered block"
            )
    return [layer for layer in layers if block_index(layer.name) in wanted]


def _parse_blocks(which: str) -> set[int]:
    wanted: set[int] = set()
    for part in which.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if not found:
            raise UsageError(f"layers {which!r} is neither 'all', 'topN' nor block numbers such as '0,2,9-11'")
        first, last = int(found.group(1)), int(found.group(2) or found.group(1))
        wanted.update(range(first, last + 1))
    return wanted


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer: PyTorch's, or GPT-2's Conv1D, which stores its weight as [inputs, outputs]."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _matches(name: str, targets: str | list[str]) -> bool:
    if targets == "all-linear":  # as PEFT reads it: every linear layer but the classification head
        return not set(name.split(".")) & {"classifier", "score"}
    return any(name == target or name.endswith("." + target) for target in targets)
