"""Puts the factors into lora_B, which works everywhere, or into alpha_pattern, which leaves the tensors alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rora_cli.checkpoints.adapters import Adapter, AdapterModule
from rora_cli.checkpoints.adapters.config import lora_scaling, module_alpha, module_rank
from rora_cli.checkpoints.adapters.names import matching_pattern
from rora_cli.errors import CheckpointError
from rora_cli.spectral.rescaling import fold


@dataclass
class Folded:
    """The new ``tensors`` by name, the new ``config``, and each module's scaling under that config."""

    config: dict[str, Any]
    scalings: dict[str, float]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] | None = None
    notes: list[str] = field(default_factory=list)

    def parts(self, adapter: Adapter, module: AdapterModule) -> tuple[Tensor, Tensor, float]:
        """(lora_B [d_out, r], lora_A [r, d_in], scaling) of a module as they will be written."""
        A, B = (self.tensors.get(name, None) for name in module.tensors[:2])
        lora_A = adapter.read(module.tensors[0]) if A is None else A
        lora_B = adapter.read(module.tensors[1]) if B is None else B
        return lora_B.flatten(1), lora_A.flatten(1), self.scalings[module.name]


def rounding(dtype: torch.dtype) -> float:
    """The largest distance of a factor from 1 (a scalar) that rounding in ``dtype`` or of sigma_max explains."""
    return max(2 * torch.finfo(dtype).eps, 1e-6)


def fold_modules(adapter: Adapter, factors: Mapping[str, float], dtype: torch.dtype | None, *, bake: bool) -> Folded:
    """Multiply lora_B (and its bias) in float64 and round once, to ``dtype`` or to the tensor's own type.

    With ``bake``, the factors also take the effect of an existing alpha_pattern, which then leaves the config.
    """
    config = dict(adapter.config)
    folded = Folded(config, {m.name: m.scaling for m in adapter.modules})
    pattern = config.get("alpha_pattern") or {}
    if bake and pattern:
        config["alpha_pattern"] = {}
        folded.notes.append(f"the {len(pattern)} entries of alpha_pattern were folded into lora_B and dropped")
    elif pattern:
        folded.notes.append("alpha_pattern is kept; servers that ignore it need --bake-alpha-pattern")
    for module in adapter.modules:
        factor = factors.get(module.name, 1.0)
        if bake and pattern:
            plain = _plain_scaling(adapter, module)
            factor, folded.scalings[module.name] = factor * module.scaling / plain, plain
        _fold(adapter, module, factor, dtype, folded.tensors)
    return folded


def _plain_scaling(adapter: Adapter, module: AdapterModule) -> float:
    """The module's scaling without alpha_pattern."""
    config = {**adapter.config, "alpha_pattern": {}}
    return lora_scaling(config, module.name, module_rank(config, module.name))


def _fold(
    adapter: Adapter, module: AdapterModule, factor: float, dtype: torch.dtype | None, tensors: dict[str, Tensor]
) -> None:
    A, B = module.tensors[:2]
    if dtype is not None:
        tensors[A] = _cast(adapter.read(A), dtype, A)
    if factor != 1.0 or dtype is not None:
        tensors[B] = fold(adapter.read(B), factor, dtype=dtype)
    if module.bias_tensor is not None and factor != 1.0:
        tensors[module.bias_tensor] = fold(adapter.read(module.bias_tensor), factor, dtype=dtype)


def _cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    cast = tensor.to(dtype)
    if not torch.isfinite(cast).all():
        raise CheckpointError(f"{name} does not fit {dtype}: use --dtype float32.")
    return cast


def patterned(adapter: Adapter, factors: Mapping[str, float]) -> Folded:
    """The factors as entries of alpha_pattern; in PEFT, the first matching pattern wins.

    A key matches every module whose path ends in it. So every adapted module gets an entry, the longest names first,
    before the existing entries. Raises CheckpointError if a module does not get its alpha that way.
    """
    config = dict(adapter.config)
    old = config.get("alpha_pattern") or {}
    wanted = {m.name: module_alpha(adapter.config, m.name) * factors.get(m.name, 1.0) for m in adapter.modules}
    names = sorted(wanted, key=lambda name: (-name.count("."), -len(name), name))
    pattern = {_key(name, names): wanted[name] for name in names} | {k: v for k, v in old.items() if k not in wanted}
    for name, alpha in wanted.items():
        key = matching_pattern(pattern, name)
        if key is None or pattern[key] != alpha:
            raise CheckpointError(f"alpha_pattern cannot give {name} an alpha of its own: use --via lora-B.")
    config["alpha_pattern"] = pattern
    scalings = {m.name: m.scaling * factors.get(m.name, 1.0) for m in adapter.modules}
    return Folded(config, scalings, alpha_pattern=pattern)


def _key(name: str, names: list[str]) -> str:
    """A pattern for ``name``: itself, or escaped if its dots, which match any character, match another module too."""
    matched = [other for other in names if matching_pattern([name], other)]
    return name if matched == [name] else re.escape(name)
