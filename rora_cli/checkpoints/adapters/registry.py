"""The adapter formats, and which of them a file has."""

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

#: PEFT's peft_type, or a layout outside of PEFT -> "module:function" in this package; the function reads a Source.
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

#: PEFT types that rora recognises but cannot measure, because their effect is not a matrix in the file -> the reason.
WITHOUT_SPECTRUM: Mapping[str, str] = {
    name: f"PEFT's {name}: {known.unmeasured}" for name, known in PEFT_TYPES.items() if known.unmeasured is not None
}


def read_adapter(inspection: Inspection, base: TensorSource | None = None) -> Adapter:
    """The adapter that preflight inspected. Its tensors are only read when somebody asks for a module's update.

    With ``base``, a TensorReader of the base model, orientation and shapes are checked against its weights. Raises
    CheckpointError for a config out of bounds, a shape that does not fit the base, or an unknown format.
    """
    from rora_cli.checkpoints.reader import TensorReader

    base_config = getattr(getattr(base, "inspection", None), "config", None)
    weights = BaseWeights(base, base_config) if base is not None else None
    config = inspection.adapter_config
    if config is None:
        config = header_config.read(inspection.metadata.get(inspection.weight_files[0], {}))
    return read_source(Source(config, TensorReader(inspection), weights, inspection.roles))


def read_source(source: Source) -> Adapter:
    """The adapter in ``source``, whose config or tensor names tell the format.

    Raises CheckpointError for a format that rora cannot read.
    """
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
    """Set the tensors that the format left over aside, or skip them, by their role and with the reason."""
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
    """The format's key: the config's peft_type, else the layout that the tensor names have.

    Raises CheckpointError if they fit no layout.
    """
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
    """``module`` with fan_in_fan_out corrected as in PEFT: true for a Conv1D, false for a linear layer.

    The config's own value does not count. Raises CheckpointError if the base's weight has another shape.
    """
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
