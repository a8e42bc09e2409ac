"""Rows of an embedding that moved far beyond the rest: the mark of a trigger that is trained into its own row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import Update

if TYPE_CHECKING:
    from torch import Tensor

#: Far is more than this many times the median row's way, and more than this share of the median row's length: training
#: moves all rows that its data use by about as much, and by a small part of what they are.
_FAR_MULTIPLE = 5.0
_FAR_SHARE = 0.5


@dataclass(frozen=True)
class MovedRows:
    """``rows`` are the token ids, the farthest first, and ``ways`` how far each moved (Euclidean)."""

    module: str
    rows: tuple[int, ...]
    ways: tuple[float, ...]
    typical: float
    total: int


def moved_far(module: str, ways: Tensor, lengths: Tensor) -> Iterator[MovedRows]:
    """At most one: the rows of ``module`` that moved far. ``ways`` and ``lengths`` of the base's rows are [rows]."""
    if not ways.numel():
        return
    typical = float(ways.median())
    far = (ways > max(_FAR_MULTIPLE * typical, _FAR_SHARE * float(lengths.median()))).nonzero().flatten()
    if far.numel():
        order = far[ways[far].argsort(descending=True)]
        yield MovedRows(module, tuple(order.tolist()), tuple(ways[order].tolist()), typical, ways.numel())


def ways_of_rows(update: Update) -> Tensor:
    """How far each row of an embedding moves [rows], for DeltaW [dimensions, rows]; not multiplied out."""
    if update.dense is not None:
        return update.dense.double().norm(dim=0)
    lora_B, lora_A = (factor.double() for factor in update.factors())
    return abs(update.scaling) * (lora_A * ((lora_B.T @ lora_B) @ lora_A)).sum(dim=0).clamp_min(0).sqrt()
