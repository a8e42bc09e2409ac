"""Which formats there are, and which one a file is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING

from rora_cli.checkpoints import header_config
from rora_cli.checkpoints.adapter_rules import NAMED
from rora_cli.checkpoints.adapters.adapter import Adapter, AdapterModule
from rora_cli.checkpoints.adapters.base import BaseWeights, TensorSource, mismatch
from rora_cli.checkpoints.adapters.source import Reading, Source
from rora_cli.checkpoints.peft_types import PEFT_TYPES
from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from rora_cli.checkpoints.preflight import Inspection

#: PEFT's peft_type, or a file layout outside PEFT -> "module:function" in this package, Source -> Reading.
FORMATS: Mapping[str, str] = {
    "LORA": "lora:read",
    "ADALORA": "adalora:read",
    "LOHA": "hadamard:read",
    "LOKR": "kronecker:read",
    "VERA": "vera:read",
    "TRAINABLE_TOKENS": "token_rows:read",
    "KOHYA": "kohya:read",
    "MLX": "mlx:read",
}

#: Types whose effect is not an added matrix that can be read: recognised, and said not to be measured.
WITHOUT_SPECTRUM: Mapping[str, str] = {
    name: f"PEFT's {name}: {known.unmeasured}" for name, known in PEFT_TYPES.items() if known.unmeasured is not None
}


def read_adapter(inspection: Inspection, base: TensorSource | None = None) -> Adapter:
    """The adapter that a preflight has inspected. Tensors are read when a module's update is asked for, not here.

    With ``base``, a TensorReader of the base model, orientation and shapes are checked against its weights. Raises
    CheckpointError for a config out of bounds, a shape that does not fit the base, or a format that is not known.
    """
    from rora_cli.checkpoints.reader import TensorReader

    base_config = getattr(getattr(base, "inspection", None), "config", None)
    weights = BaseWeights(base, base_config) if base is not None else None
    config = inspection.adapter_config
    if config is None:
        config = header_config.read(inspection.metadata.get(inspection.weight_files[0], {}))
    return read_source(Source(config, TensorReader(inspection), weights, inspection.roles))


def read_source(source: Source) -> Adapter:
    """The adapter in ``source``, by the format that its config or its tensor names tell."""
    kind = detect(source)
    if kind in WITHOUT_SPECTRUM:
        reading = Reading()
        reading.skip(source.names(), WITHOUT_SPECTRUM[kind])
    elif kind in FORMATS:
        reading = _reader(kind)(source)
    else:
        raise CheckpointError(
            f"adapter_config.json: peft_type {kind[:40]!r} is none of PEFT's; the formats that can be measured are "
            f"{', '.join(FORMATS)}."
        )
    _account_for_the_rest(source, reading)
    modules = tuple(_oriented(module, source.base) for module in reading.modules)
    return Adapter(
        kind,
        modules,
        reading.unmeasured,
        reading.aside,
        source.config,
        source.read,
        source.base,
        frozenset(reading.whole),
    )


def _account_for_the_rest(source: Source, reading: Reading) -> None:
    """What the format left over, by its role: whole weights beside the updates, or not read, with the reason."""
    for name in sorted(set(source.names()) - reading.accounted()):
        role, named = source.roles.get(name, "unknown"), NAMED.search(name)
        if role == "original":
            reading.set_aside([name], "the bias of a head that is replaced: without effect")
        elif role == "copy":
            reading.set_aside([name], "equal to the base's own weight")
        elif role == "adapter" and named is not None:
            reading.skip(
                [name],
                f"the adapter's name {named[1]!r} is left in the tensor's name, so PEFT does not load it: take it out, "
                "or save the adapter with save_pretrained",
            )
        elif role in ("adapter", "unknown"):
            reading.skip([name], "not part of this format: unknown to rora")
        else:
            reading.whole.add(name)
            reading.set_aside([name], "saved whole, beside the updates")


def detect(source: Source) -> str:
    """The format's key: the config's peft_type, else what the tensor names look like."""
    declared = source.config.get("peft_type")
    if isinstance(declared, str) and declared:
        return declared.upper()
    names = source.names()
    ends = {name.rpartition(".")[2] for name in names}
    if "lora_parameters" in source.config or {"lora_a", "lora_b"} <= ends:
        return "MLX"
    if any(".lora_A." in name or ".lora_embedding_A" in name for name in names):
        return "LORA"
    if any(n.endswith((".lora_down.weight", ".lora.down.weight")) or ".hada_w1_" in n or ".lokr_w" in n for n in names):
        return "KOHYA"
    raise CheckpointError(
        "the file's tensors are in no adapter format that rora knows, and there is no adapter_config.json."
    )


def _reader(kind: str) -> Callable[[Source], Reading]:
    module, _, function = FORMATS[kind].partition(":")
    return getattr(import_module(f"rora_cli.checkpoints.adapters.{module}"), function)


def _oriented(module: AdapterModule, base: BaseWeights | None) -> AdapterModule:
    """``module`` with fan_in_fan_out as PEFT corrects it: true for a Conv1D and false for a linear layer, whatever the
    config says. Checks the shape against the base's weight."""
    name = base.find(module.name, module.parameter) if base else None
    if base is None or name is None or base.unreadable(name):
        return module
    stored = base.shape(name)
    if len(stored) == 3 and module.expert is not None:
        stored = stored[1:]
    elif len(stored) > 2:
        stored = (stored[0], prod(stored[1:]))
    straight, flipped = stored == module.shape, stored == module.shape[::-1]
    if not straight and not flipped:
        raise mismatch(name, stored, module.shape)
    if straight and flipped:
        conv1d = base.is_conv1d(module.name) if module.expert is None and "embed" not in module.format else None
        return module if conv1d is None else replace(module, fan_in_fan_out=conv1d)
    return replace(module, fan_in_fan_out=flipped)
