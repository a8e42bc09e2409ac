"""The layout of MLX (mlx-lm): lora_a [d_in, r] and lora_b [r, d_out], with y = W x + scale (x lora_a) lora_b."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import config as settings
from rora_cli.checkpoints.adapters.adapter import AdapterModule, FactorNames, Update
from rora_cli.checkpoints.adapters.names import group_parts
from rora_cli.checkpoints.adapters.source import Reading, Source
from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {".lora_a": "a", ".lora_b": "b", ".m": "m"}


def read(source: Source) -> Reading:
    """Every module with lora_a and lora_b."""
    reading = Reading()
    if not source.config:
        reading.skip(source.names(), "the scale is unknown: MLX keeps it in adapter_config.json, which is not there")
        return reading
    groups, _ = group_parts(source.names(), _PARTS)
    for name, parts in groups.items():
        if not {"a", "b"} <= parts.keys():
            reading.skip(parts.values(), "lora_a or lora_b is missing")
            continue
        a, b = source.shape(parts["a"]), source.shape(parts["b"])
        if "m" in parts or len(a) != 2 or len(b) != 2 or a[1] != b[0]:
            reading.skip(parts.values(), "DoRA or fused experts in MLX's layout: not read by rora")
            continue
        scale = _scale(source.config)
        build = partial(_update, source, parts["a"], parts["b"], scale)
        tensors = (parts["a"], parts["b"])
        factors = FactorNames(parts["b"], parts["a"], transposed=True)
        module = AdapterModule(name, "mlx", (b[1], a[0]), a[1], scale, tensors, build, factors=factors)
        reading.modules.append(module)
    return reading


def _scale(config: Mapping[str, object]) -> float:
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, Mapping) or "scale" not in parameters:
        raise CheckpointError(
            "adapter_config.json: lora_parameters.scale is missing; without it an MLX adapter's strength is unknown."
        )
    return settings.number(parameters["scale"], "lora_parameters.scale")


def _update(source: Source, a: str, b: str, scale: float, _: Tensor | None) -> Update:
    return Update(source.read(a).T, source.read(b).T, scale)
