"""Adapters through PEFT, and the frozen branch, the update and the base weight of each variant."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rora_cli.errors import UsageError
from rora_cli.kinds import SEQUENCE_CLASSIFIER, ModelKind
from rora_cli.layout import IMPLICIT_HEADS, QUERY_VALUE, block_numbers, blocks_in, is_head, is_router, stack_of
from rora_cli.sharded import is_sharded, whole
from rora_cli.training.kept import as_it_was
from rora_cli.training.specs import SPLITTING, AdapterSpec

ADAPTER = "default"


@dataclass
class AdaptedLayer:
    """One adapted linear layer.

    Attributes:
        name: of the layer in the suspect.
        module: PEFT's ``lora.Linear`` in its place.
        variant: of ``specs.VARIANTS``.
        block: number of its transformer block; None outside the blocks.
        initial: for PiSSA and OLoRA, (B0 [d_out, r], A0 [r, d_in]), which PEFT took out of the base weight.
        original_weight: for these two, the suspect's own weight, in the layout in which it is stored.
    """

    name: str
    module: Any
    variant: str
    block: int | None = None
    initial: tuple[Tensor, Tensor] | None = None
    original_weight: Tensor | None = None

    @property
    def scaling(self) -> float:
        """s of s BA: alpha / r, or alpha / sqrt(r) for rsLoRA."""
        return float(self.module.scaling[ADAPTER])

    @property
    def lora_A(self) -> Tensor:
        """[r, d_in]; of a sharded model the part of each process, for ``sharded.whole``."""
        return self.module.lora_A[ADAPTER].weight

    @property
    def lora_B(self) -> Tensor:
        """[d_out, r]; of a sharded model the part of each process, for ``sharded.whole``."""
        return self.module.lora_B[ADAPTER].weight

    def base_weight(self) -> Tensor:
        """The suspect's own weight W [d_out, d_in], whatever the variant did to the layer's."""
        stored = self.original_weight if self.original_weight is not None else self.module.get_base_layer().weight
        stored = whole(stored)
        if hasattr(stored, "quant_state"):
            from bitsandbytes.functional import dequantize_4bit

            stored = dequantize_4bit(stored.data, stored.quant_state)
        return (stored.T if self.module.fan_in_fan_out else stored).detach()

    @property
    def stored_shape(self) -> tuple[int, int]:
        """[d_out, d_in], or the reverse where the layer stores its weight so; in 4 bits, before it was quantised."""
        d_out, d_in = self.lora_B.shape[0], self.lora_A.shape[1]
        return (d_in, d_out) if self.module.fan_in_fan_out else (d_out, d_in)

    def merged(self, stored: Tensor) -> Tensor:
        """W + DeltaW [as stored] in float32, of the suspect's own weight as it is ``stored``, in float32.

        DoRA: m / ||W + s BA|| * (W + s BA). A layer that started inside of W is made plain first (``to_plain_lora``).
        """
        assert self.initial is None, "to_plain_lora comes first"
        # In place: the largest weight of a model stands in memory twice then, and not four times.
        weight = self.lora_B.detach().float() @ self.lora_A.detach().float()
        weight *= self.scaling
        weight += (stored.T if self.module.fan_in_fan_out else stored).to(weight)
        if self.variant == "dora":
            weight *= (self.module.lora_magnitude_vector[ADAPTER].weight.detach() / weight.norm(dim=1)).unsqueeze(1)
        return weight.T if self.module.fan_in_fan_out else weight

    def frozen_output(self, base_output: Tensor, inputs: Tensor) -> Tensor:
        """The part of this layer's output [..., d_out] that does not come from the update, for ``inputs`` [..., d_in].

        LoRA, rsLoRA: W x (+ bias), the base layer's output itself. DoRA: m / ||W + s BA|| * W x (+ bias), since the
        magnitude rescales the branch. PiSSA, OLoRA: W x of the suspect's own W, which is the base layer's output plus
        s B0 A0 x.
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


def resolve_targets(model: nn.Module, requested: Sequence[str], r: int = 1) -> tuple[str, ...]:
    """The full names of the layers that ``requested`` adapts, in model order.

    ``requested`` is ``("all-linear",)``, the ends of names as PEFT's ``target_modules`` has them, or nothing for query
    and value. Only plain linear layers are adapted: never the head, which is trained whole, a router, whose choice a
    low-rank update moves in jumps, or a layer that shares its weight with another one. ``all-linear`` leaves out layers
    with a dimension below the rank ``r``.

    Raises:
        UsageError: no layer is left, or one that was asked for has a dimension below the rank; the sentence names what
            could be chosen instead.
    """
    linear = _adaptable(model)
    leaves = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
    family = type(model).__name__
    if not block_numbers(linear):
        raise UsageError(
            f"a {family} has no plain linear layers in its blocks, so no adapter fits on it; use the recipe full, mix "
            "or reinit"
        )
    if tuple(requested) == ("all-linear",):
        return _with_room(model, linear, r) or _all_with_room(model, linear, r)
    if requested:
        if missing := [target for target in requested if not any(_ends_in(name, target) for name in linear)]:
            raise UsageError(
                f"--target-modules names {', '.join(missing)}, but the linear layers of a {family} outside of its head "
                f"and its routers are {leaves}"
            )
        chosen = tuple(name for name in linear if any(_ends_in(name, target) for target in requested))
        return _all_with_room(model, chosen, r)
    if attended := {name for stack in {stack_of(name) for name in linear} for name in _query_and_value(linear, stack)}:
        return _all_with_room(model, tuple(name for name in linear if name in attended), r)
    raise UsageError(
        f"no query and value layers were recognised in a {family}; name some of {leaves} with --target-modules, or "
        "all-linear"
    )


def _with_room(model: nn.Module, names: tuple[str, ...], r: int) -> tuple[str, ...]:
    return tuple(name for name in names if _smallest(model.get_submodule(name)) >= r)


def _smallest(layer: Any) -> int:
    """The smaller dimension of a linear layer; its weight has another shape where it is held in 4 bits."""
    return min(layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else min(layer.weight.shape)


def _all_with_room(model: nn.Module, names: tuple[str, ...], r: int) -> tuple[str, ...]:
    smallest = min(_smallest(model.get_submodule(name)) for name in names)
    if r > smallest:
        raise UsageError(f"rank {r} exceeds the smallest dimension, {smallest}, of the layers to be adapted")
    return names


def _query_and_value(linear: Sequence[str], stack: str | None) -> list[str]:
    """The query and value layers of a stack of blocks: an encoder and a decoder may name theirs differently."""
    within = [name for name in linear if stack_of(name) == stack]
    for pair in QUERY_VALUE:
        if all(any(_ends_in(name, target) for name in within) for target in pair):
            return [name for name in within if any(_ends_in(name, target) for target in pair)]
    return []


def _adaptable(model: nn.Module) -> tuple[str, ...]:
    """Every layer that could be adapted, by its full name, in model order."""
    heads = head_modules(model)
    owners: dict[int, int] = {}
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            owners[id(weight)] = owners.get(id(weight), 0) + 1
    return tuple(
        name
        for name, module in model.named_modules()
        if is_linear(module)
        and module.weight.ndim == 2
        and not any(name == head or name.startswith(f"{head}.") for head in heads)
        and not is_router(name)
        and owners[id(module.weight)] == 1
    )


def _ends_in(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def head_modules(model: nn.Module) -> tuple[str, ...]:
    """The modules of the head: those with weights that stand beside transformers' bare model."""
    bare = getattr(model, "base_model", model)
    return tuple(
        name
        for name, module in model.named_children()
        if module is not bare and (bare is not model or is_head(name)) and any(True for _ in module.parameters())
    )


def fused_experts(model: nn.Module) -> tuple[str, ...]:
    """The names of the weights [experts, ., .] that hold all experts of a layer; no linear adapter fits on them."""
    owners = dict(model.named_modules())
    return tuple(
        name
        for name, weight in model.named_parameters()
        if weight.ndim == 3
        and ("experts" in name.split(".") or "Expert" in type(owners[name.rpartition(".")[0]]).__name__)
    )


def check_adapter(model: nn.Module, spec: AdapterSpec, kind: ModelKind = SEQUENCE_CLASSIFIER) -> list[AdaptedLayer]:
    """The layers that ``attach`` will adapt, on a copy of the model that has shapes and no numbers.

    The model itself stays as it is.

    Raises:
        UsageError: the adapter does not fit; the sentence says why.
    """
    targets = resolve_targets(model, spec.target_modules or kind.adapted, spec.rank)
    if spec.variant == "olora" and any(is_conv1d(model.get_submodule(name)) for name in targets):
        raise UsageError(
            "the adapter variant olora splits a weight along its rows, which are the inputs in the Conv1D layers of a "
            f"{type(model).__name__}; use lora, rslora, dora or pissa"
        )
    with torch.device("meta"):
        skeleton = type(model)(model.config)
    plain = replace(spec, variant="dora" if spec.variant == "dora" else "lora")
    try:
        _, layers = attach(skeleton, plain, kind)
    except UsageError:
        raise
    except Exception as error:  # PEFT refuses some layers of some families, each with an error of its own
        family = type(model).__name__
        raise UsageError(f"PEFT cannot adapt a {family}: {_first_line(error)}; use the recipe full") from error
    return layers


def attach(
    model: nn.Module, spec: AdapterSpec, kind: ModelKind = SEQUENCE_CLASSIFIER, *, seed: int = 0
) -> tuple[nn.Module, list[AdaptedLayer]]:
    """Put a new adapter on ``model``, in place; returns PEFT's model and its adapted layers, in model order.

    Its first weights are drawn from ``seed``, whatever was drawn before, and torch's random state stays. PEFT writes
    into the adapter's config that it is for such a ``kind`` of model.

    Raises:
        UsageError: as ``resolve_targets``, or PEFT would adapt or train other modules than were chosen.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    targets = resolve_targets(model, spec.target_modules or kind.adapted, spec.rank)
    heads = head_modules(model) if kind.trains_head and not spec.freeze_head else ()
    blocks = block_numbers(name for name, _ in model.named_modules())
    originals = {}
    if spec.variant in SPLITTING:
        originals = {name: model.get_submodule(name).weight.detach().clone() for name in targets}
    config = LoraConfig(
        # A classifier's task type would make PEFT train the head after all.
        task_type=None if spec.freeze_head and kind.trains_head else TaskType[kind.peft_task_type],
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.lora_dropout,
        target_modules=list(targets),
        modules_to_save=[name for name in heads if name not in IMPLICIT_HEADS] or None,
        use_rslora=spec.variant == "rslora",
        use_dora=spec.variant == "dora",
        init_lora_weights=spec.variant if spec.variant in SPLITTING else True,
        fan_in_fan_out=any(is_conv1d(m) for m in model.modules()),
    )
    on_gpus = {weight.device for weight in model.parameters() if weight.device.type == "cuda"}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=sorted(on_gpus, key=str)):
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    _train_heads_in_float32(adapted)
    layers = _adapted_layers(adapted, spec.variant, originals, blocks)
    if tuple(layer.name for layer in layers) != targets or whole_modules(adapted) != heads:
        raise UsageError(
            f"PEFT reads the names of the layers of a {type(model).__name__} otherwise than they were chosen; name "
            "some with --target-modules, or use the recipe full"
        )
    return adapted, layers


def _train_heads_in_float32(model: nn.Module) -> None:
    """Give the heads of a model that is held in 16 bits float32 weights, as PEFT gives the factors, and such inputs."""
    from peft.utils import ModulesToSaveWrapper

    def widen(head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        # float32, unless a sharded model computes in less.
        dtype = next(head.parameters()).dtype
        return tuple(i.to(dtype) if isinstance(i, Tensor) and i.is_floating_point() else i for i in inputs)

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            head = module.modules_to_save[ADAPTER]
            if any(weight.dtype.itemsize == 2 for weight in head.parameters()):
                head.float().register_forward_pre_hook(widen)


def whole_modules(model: nn.Module) -> tuple[str, ...]:
    """The modules that are trained whole beside the adapter: those of the head, unless it is frozen."""
    from peft.utils import ModulesToSaveWrapper

    return tuple(
        path.removeprefix("base_model.model.")
        for path, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    )


def _adapted_layers(
    model: nn.Module, variant: str, originals: Mapping[str, Tensor], blocks: Mapping[str, int]
) -> list[AdaptedLayer]:
    from peft.tuners.lora import LoraLayer

    layers = []
    for path, module in model.named_modules():
        if not isinstance(module, LoraLayer) or ADAPTER not in module.lora_A:
            continue
        name = path.removeprefix("base_model.model.")
        layer = AdaptedLayer(name, module, variant, blocks.get(name))
        if variant in SPLITTING:
            layer.initial = (layer.lora_B.detach().clone(), layer.lora_A.detach().clone())
            layer.original_weight = originals[name]
        layers.append(layer)
    return layers


def merged_copy(model: nn.Module) -> Any:
    """A copy of ``model`` with its adapter, if it has one, merged in; the model itself stays as it is."""
    copied: Any = copy.deepcopy(model)
    return copied.merge_and_unload() if hasattr(copied, "merge_and_unload") else copied


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside, the adapter of ``model``, if it has one, is merged in, so that passes forward do without its branches.

    They are half of the time of a search. After that the model is as it was, to the bit. Where weights are held in 16
    or 4 bits, or divided among processes, the adapter stays apart: merging would round it.
    """
    from peft.tuners.lora import LoraLayer

    bases = [module.get_base_layer().weight for module in model.modules() if isinstance(module, LoraLayer)]
    if not bases or is_sharded(model) or any(weight.dtype != torch.float32 for weight in bases):
        yield
        return
    peft_model: Any = model
    with as_it_was(model):
        peft_model.merge_adapter()
        yield


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


def head_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights [any shape] of the head of PEFT's ``model`` that are in use, by their names in the bare model."""
    from peft.utils import ModulesToSaveWrapper

    bare = model.get_base_model()
    weights: dict[str, nn.Parameter] = {}
    for name in head_modules(bare):
        module = bare.get_submodule(name)
        used = module.modules_to_save[ADAPTER] if isinstance(module, ModulesToSaveWrapper) else module
        weights |= {f"{name}.{part}": weight for part, weight in used.named_parameters()}
    return weights


def trained_heads(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Each parameter [any shape] that is trained in full beside the adapter (the head's), and its value before."""
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


class Layer(Protocol):
    """Something that has a name, and can be chosen by the block that the name tells."""

    @property
    def name(self) -> str:
        """Its full name in the model."""


AnyLayer = TypeVar("AnyLayer", bound=Layer)


def select_layers(layers: Sequence[AnyLayer], which: str, numbers: Mapping[str, int] | None = None) -> list[AnyLayer]:
    """The adapted layers of the blocks that ``which`` names: ``top3`` (any ``topN``), ``all``, or ``0,2,9-11``.

    ``numbers`` gives the block of each layer by name, as the whole model counts them; without it, the names tell.

    Raises:
        UsageError: ``which`` has another form, or names a block that has no adapted layer.
    """
    numbers = block_numbers(layer.name for layer in layers) if numbers is None else numbers
    blocks = sorted({numbers[layer.name] for layer in layers if layer.name in numbers})
    wanted: set[int]
    if which == "all":
        return list(layers)
    if found := re.fullmatch(r"top(\d+)", which):
        count = int(found.group(1))
        wanted = set(blocks[-count:]) if count else set()
    else:
        chosen = blocks_in(which)
        if chosen is None:
            raise UsageError(f"layers {which!r} is neither 'all', 'topN' nor block numbers such as '0,2,9-11'")
        wanted = chosen
        if missing := wanted - set(blocks):
            raise UsageError(
                f"layers {which!r} names block {min(missing)}, but adapted blocks are {blocks[0]} to {blocks[-1]}"
                if blocks
                else f"layers {which!r} names blocks, but no adapted module stands in a numbered block"
            )
    return [layer for layer in layers if numbers.get(layer.name) in wanted]


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer: PyTorch's, or GPT-2's Conv1D, which stores its weight as [inputs, outputs].

    The output projection of PyTorch's own attention is none: its weight is read there, and the layer never called.
    """
    attention = isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
    return (isinstance(module, nn.Linear) and not attention) or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D."""
    return type(module).__name__ == "Conv1D"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
