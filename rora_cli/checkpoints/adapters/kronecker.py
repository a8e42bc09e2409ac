"""LoKr (arXiv:2309.14859): DeltaW = s kron(w1, w2); w1 and w2 are each saved whole or as a product of two factors.

The SVD of a Kronecker product is the Kronecker product of the SVDs, so the SVDs of w1 and w2 factor DeltaW.
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
    ".lokr_w1": "w1",
    ".lokr_w2": "w2",
    ".lokr_w1_a": "w1_a",
    ".lokr_w1_b": "w1_b",
    ".lokr_w2_a": "w2_a",
    ".lokr_w2_b": "w2_b",
    ".lokr_t2": "t2",
}


def read(source: Source) -> Reading:
    """Every LoKr module, as PEFT saves it."""
    reading = Reading()
    groups, _ = group_parts(source.names(), PARTS)
    for path, parts in groups.items():
        name = module_name(path)
        r = settings.module_rank(source.config, name)
        add_module(source, reading, name, parts, settings.module_alpha(source.config, name, "alpha") / r)
    return reading


def add_module(source: Source, reading: Reading, name: str, parts: Mapping[str, str], scaling: float) -> None:
    """Add one LoKr module to ``reading``, or the reason why it cannot be measured."""
    if "t2" in parts:
        return reading.skip(parts.values(), "LoKr with a Tucker core (use_effective_conv2d) is a 4-D update: no matrix")
    first, second = _factor(source, parts, "w1"), _factor(source, parts, "w2")
    if first is None or second is None:
        return reading.skip(parts.values(), "one of lokr_w1 (or its _a, _b) and lokr_w2 (or its _a, _b) is missing")
    (names1, shape1), (names2, shape2) = first, second
    shape = (shape1[0] * shape2[0], shape1[1] * shape2[1])
    ranks = [min(*s, *(source.shape(n)[1] for n in names[:1] if len(names) == 2)) for names, s in (first, second)]
    build = partial(_update, source, names1, names2, scaling)
    names = (*names1, *names2)
    reading.modules.append(AdapterModule(name, "lokr", shape, ranks[0] * ranks[1], scaling, names, build))
    return None


def _factor(source: Source, parts: Mapping[str, str], key: str) -> tuple[tuple[str, ...], tuple[int, int]] | None:
    """The tensors and the shape of w1 or w2; None if tensors are missing or do not fit each other."""
    if key in parts:
        shape = source.shape(parts[key])
        return ((parts[key],), (shape[0], shape[1])) if len(shape) == 2 else None
    names = tuple(parts[k] for k in (f"{key}_a", f"{key}_b") if k in parts)
    shapes = [source.shape(name) for name in names]
    if len(shapes) != 2 or any(len(s) != 2 for s in shapes) or shapes[0][1] != shapes[1][0]:
        return None
    return names, (shapes[0][0], shapes[1][1])


def _update(
    source: Source, names1: tuple[str, ...], names2: tuple[str, ...], scaling: float, _: Tensor | None
) -> Update:
    import torch

    (U1, S1, V1), (U2, S2, V2) = (_svd(source, names) for names in (names1, names2))
    return Update(torch.kron(V1.T.contiguous(), V2.T.contiguous()), torch.kron(U1 * S1, U2 * S2), scaling)


def _svd(source: Source, names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    from rora_cli.spectral.decomposition import thin_svd

    factors = [source.read(name).double() for name in names]
    rank = min(*factors[0].shape, factors[-1].shape[1])
    U, S, V = thin_svd(factors[0] if len(factors) == 1 else factors[0] @ factors[1])
    return U[:, :rank], S[:rank], V[:, :rank]
