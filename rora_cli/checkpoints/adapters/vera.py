"""VeRA (arXiv:2310.11454): DeltaW = Lambda_b B Lambda_d A; all modules share one A and one B."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters.adapter import AdapterModule, Update
from rora_cli.checkpoints.adapters.names import group_parts, module_name
from rora_cli.checkpoints.adapters.source import Reading, Source

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {".vera_lambda_b": "b", ".vera_lambda_d": "d"}
_A, _B = "base_model.vera_A", "base_model.vera_B"


def read(source: Source) -> Reading:
    """Every module with vera_lambda_b and vera_lambda_d."""
    reading = Reading()
    names = set(source.names())
    groups, _ = group_parts(names - {_A, _B}, _PARTS)
    shared = {_A, _B} <= names
    for path, parts in sorted(groups.items()):
        name = module_name(path)
        if not shared:
            # PEFT draws them from projection_prng_key, as wide as the widest target, which only the model tells.
            reading.skip(parts.values(), "VeRA without its shared matrices (save_projection false)")
            continue
        d_in = _d_in(source, name)
        if parts.keys() != {"b", "d"} or d_in is None:
            reading.skip(
                parts.values(), "vera_lambda_b or _d is missing, or the width of its input is not known: give the base"
            )
            continue
        shape = (source.shape(parts["b"])[0], d_in)
        build = partial(_update, source, parts["b"], parts["d"], shape)
        tensors = (parts["b"], parts["d"], _A, _B)
        fan = bool(source.config.get("fan_in_fan_out"))
        reading.modules.append(
            AdapterModule(name, "vera", shape, source.shape(parts["d"])[0], 1.0, tensors, build, fan)
        )
    return reading


def _d_in(source: Source, name: str) -> int | None:
    """The width of the module's input. Only the base is sure to tell it: the shared A has that of the widest."""
    widest = source.shape(_A)[1]
    if source.base is None:
        return widest
    found = source.base.find(name)
    if found is None:
        return None
    stored = source.base.shape(found)
    return stored[0] if source.base.is_conv1d(name) else stored[1]


def _update(source: Source, b: str, d: str, shape: tuple[int, int], _: Tensor | None) -> Update:
    lambda_b, lambda_d = source.read(b).float(), source.read(d).float()
    lora_A = source.read(_A)[: len(lambda_d), : shape[1]].float() * lambda_d[:, None]
    lora_B = source.read(_B)[: shape[0], : len(lambda_d)].float() * lambda_b[:, None]
    return Update(lora_A, lora_B)
