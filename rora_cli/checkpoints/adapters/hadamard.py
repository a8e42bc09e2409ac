"""LoHa (arXiv:2108.06098): DeltaW = s (w1_a w1_b) o (w2_a w2_b).

The elementwise product of two matrices of rank r has a rank of at most r^2. Its factors lora_B [d_out, r^2] and
lora_A [r^2, d_in] are row-wise and column-wise Kronecker products of theirs, so no dense matrix is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import config as settings
from rora_cli.checkpoints.adapters.adapter import AdapterModule, Update
from rora_cli.checkpoints.adapters.names import group_parts, module_name
from rora_cli.checkpoints.adapters.source import Reading, Source

if TYPE_CHECKING:
    from torch import Tensor

PARTS = {
    ".hada_w1_a": "w1_a",
    ".hada_w1_b": "w1_b",
    ".hada_w2_a": "w2_a",
    ".hada_w2_b": "w2_b",
    ".hada_t1": "t1",
    ".hada_t2": "t2",
}


def read(source: Source) -> Reading:
    """Every LoHa module, as PEFT saves it."""
    reading = Reading()
    groups, _ = group_parts(source.names(), PARTS)
    for path, parts in groups.items():
        name = module_name(path)
        r = settings.module_rank(source.config, name)
        add_module(source, reading, name, parts, settings.module_alpha(source.config, name, "alpha") / r)
    return reading


def add_module(source: Source, reading: Reading, name: str, parts: Mapping[str, str], scaling: float) -> None:
    """Add one LoHa module to ``reading``, or the reason why it cannot be measured."""
    if "t1" in parts or "t2" in parts:
        return reading.skip(parts.values(), "LoHa with a Tucker core (use_effective_conv2d) is a 4-D update: no matrix")
    if not {"w1_a", "w1_b", "w2_a", "w2_b"} <= parts.keys():
        return reading.skip(parts.values(), "one of hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b is missing")
    names = tuple(parts[p] for p in ("w1_a", "w1_b", "w2_a", "w2_b"))
    a1, b1, a2, b2 = (source.shape(n) for n in names)
    if any(len(s) != 2 for s in (a1, b1, a2, b2)) or a1 != a2 or b1 != b2 or a1[1] != b1[0]:
        return reading.skip(parts.values(), "its factors do not fit each other")
    shape = (a1[0], b1[1])
    build = partial(_update, source, names, scaling)
    reading.modules.append(AdapterModule(name, "loha", shape, min(a1[1] ** 2, *shape), scaling, names, build))
    return None


def _update(source: Source, names: tuple[str, ...], scaling: float, _: Tensor | None) -> Update:
    w1_a, w1_b, w2_a, w2_b = (source.read(name).double() for name in names)
    if w1_a.shape[1] ** 2 >= min(w1_a.shape[0], w1_b.shape[1]):
        return Update(dense=scaling * (w1_a @ w1_b) * (w2_a @ w2_b))
    lora_B = (w1_a[:, :, None] * w2_a[:, None, :]).flatten(1)
    lora_A = (w1_b[:, None, :] * w2_b[None, :, :]).flatten(0, 1)
    return Update(lora_A, lora_B, scaling)
