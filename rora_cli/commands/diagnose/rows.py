"""Finds rows of an embedding that moved much further than the rest: the mark of a trigger trained into its own row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters import Update

if TYPE_CHECKING:
    from torch import Tensor

#: Distance [median distance] that a row must exceed to count as far: training moves all rows in its data about equally.
_FAR_MULTIPLE = 5.0
#: Distance [median length of a row] that a row must exceed as well: training moves a row by a small part of its length.
_FAR_SHARE = 0.5


@dataclass(frozen=True)
class MovedRows:
    """``rows`` are token ids, the farthest first, and ``ways`` the Euclidean distances by which they moved."""

    module: str
    rows: tuple[int, ...]
    ways: tuple[float, ...]
    typical: float
    total: int


def moved_far(module: str, ways: Tensor, lengths: Tensor) -> Iterator[MovedRows]:
    """The rows of ``module`` that moved far, as one item or none.

    ``ways`` [rows] are the distances by which the rows moved, ``lengths`` [rows] the lengths of the base's rows.
    """
    if not ways.numel():
        return
    typical = float(ways.median())
    far = (ways > max(_FAR_MULTIPLE * typical, _FAR_SHARE * float(lengths.median()))).nonzero().flatten()
    if far.numel():
        order = far[ways[far].argsort(descending=True)]
        yield MovedRows(module, tuple(order.tolist()), tuple(ways[order].tolist()), typical, ways.numel())


def ways_of_rows(update: Update) -> Tensor:
    """How far each row of an embedding moves [rows], from the factors of DeltaW [dimensions, rows]."""
    if update.dense is not None:
        return update.dense.double().norm(dim=0)
    lora_B, lora_A = (factor.double() for factor in update.factors())
    return abs(update.scaling) * (lora_A * ((lora_B.T @ lora_B) @ lora_A)).sum(dim=0).clamp_min(0).sqrt()
