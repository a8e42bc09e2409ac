"""AdaLoRA (arXiv:2303.10512): DeltaW = alpha B (E A) / r_0, with r_0 the rank at the start of its training."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import config as settings
from rora_cli.checkpoints.adapters.adapter import AdapterModule, Update
from rora_cli.checkpoints.adapters.names import group_parts, module_name
from rora_cli.checkpoints.adapters.source import Reading, Source

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {".lora_A": "A", ".lora_B": "B", ".lora_E": "E"}


def read(source: Source) -> Reading:
    """Every module with lora_A, lora_B and lora_E."""
    reading = Reading()
    groups, _ = group_parts(source.names(), _PARTS)
    start = settings.rank(source.config.get("init_r", 12), "init_r")
    alpha = settings.number(source.config.get("lora_alpha", 8), "lora_alpha")
    for path, parts in groups.items():
        if parts.keys() != {"A", "B", "E"}:
            reading.skip(parts.values(), "lora_A, lora_B or lora_E is missing")
            continue
        A, B, E = parts["A"], parts["B"], parts["E"]
        r = source.shape(A)[0]
        if r < 1 or source.shape(B)[1:] != (r,) or source.shape(E) != (r, 1):
            reading.skip(parts.values(), "pruned to rank 0, or its factors differ in rank")
            continue
        # As PEFT does: 1e-5 is added to the rank, and the current rank stands in for an alpha that is not positive.
        scaling = (alpha if alpha > 0 else float(r)) / (start + 1e-5)
        shape = (source.shape(B)[0], source.shape(A)[1])
        build = partial(_update, source, A, B, E, scaling)
        fan = bool(source.config.get("fan_in_fan_out"))
        reading.modules.append(AdapterModule(module_name(path), "adalora", shape, r, scaling, (A, B, E), build, fan))
    return reading


def _update(source: Source, A: str, B: str, E: str, scaling: float, _: Tensor | None) -> Update:
    return Update(source.read(A).float() * source.read(E).float(), source.read(B), scaling)
