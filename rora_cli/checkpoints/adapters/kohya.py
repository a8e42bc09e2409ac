"""The layout of kohya and diffusers: lora_up, lora_down and alpha for each module; LoHa and LoKr as in LyCORIS."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import config as settings
from rora_cli.checkpoints.adapters import hadamard, kronecker
from rora_cli.checkpoints.adapters.adapter import AdapterModule, FactorNames, Update
from rora_cli.checkpoints.adapters.names import group_parts
from rora_cli.checkpoints.adapters.source import Reading, Source

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_mid.weight": "mid",
    ".alpha": "alpha",
    ".dora_scale": "dora",
    **hadamard.PARTS,
    **kronecker.PARTS,
}
_PREFIXES = ("lora_unet_", "lora_te1_", "lora_te2_", "lora_te_", "lora_transformer_")


def read(source: Source) -> Reading:
    """Every LoRA, LoHa and LoKr module."""
    reading = Reading()
    groups, rest = group_parts(source.names(), _PARTS)
    reading.skip(rest, "unknown to kohya's layout")
    for path, parts in groups.items():
        name = next((path.removeprefix(p) for p in _PREFIXES if path.startswith(p)), path)
        first = next((parts[p] for p in ("down", "w1_b", "w2_b") if p in parts), None)
        if "dora" in parts or "mid" in parts:
            reading.skip(parts.values(), "LyCORIS' DoRA scale or Tucker core: not a plain product of its factors")
        elif "w1" in parts or "w1_a" in parts:
            whole = {"w1", "w2"} <= parts.keys()  # LyCORIS sets alpha to the rank then, and does not save the rank
            scaling = 1.0 if whole or first is None else _scaling(source, parts, source.shape(first)[0])
            add = hadamard.add_module if any(".hada_" in n for n in parts.values()) else kronecker.add_module
            add(source, reading, name, {k: v for k, v in parts.items() if k != "alpha"}, scaling)
            if "alpha" in parts:
                reading.set_aside([parts["alpha"]], "a scale: taken into DeltaW")
        elif {"up", "down"} <= parts.keys():
            _low_rank(source, reading, name, parts)
        else:
            reading.skip(parts.values(), "lora_up or lora_down is missing")
    return reading


def _low_rank(source: Source, reading: Reading, name: str, parts: Mapping[str, str]) -> None:
    down, up = source.shape(parts["down"]), source.shape(parts["up"])
    if len(down) < 2 or len(up) < 2 or down[0] != up[1] or any(n > 1 for n in up[2:]):
        return reading.skip(parts.values(), "lora_up and lora_down do not fit each other")
    r, shape = down[0], (up[0], prod(down[1:]))
    scaling = _scaling(source, parts, r)
    build = partial(_update, source, parts["up"], parts["down"], scaling)
    factors, tensors = FactorNames(parts["up"], parts["down"]), tuple(parts.values())
    reading.modules.append(AdapterModule(name, "kohya", shape, r, scaling, tensors, build, factors=factors))
    return None


def _scaling(source: Source, parts: Mapping[str, str], r: int) -> float:
    """alpha / r, with the alpha of the module's tensor, else that of the header, else r."""
    if "alpha" not in parts:
        return settings.number(source.config.get("lora_alpha", r), "lora_alpha") / r
    return settings.number(source.scalar(parts["alpha"]), parts["alpha"]) / r


def _update(source: Source, up: str, down: str, scaling: float, _: Tensor | None) -> Update:
    return Update(source.read(down).flatten(1), source.read(up).flatten(1), scaling)
