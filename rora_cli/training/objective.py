"""What a training run minimises, as the loop sees it. The tasks have the implementations; this imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

#: (text of a row, index of the row, epoch) -> the text to train on. The same arguments must always give the same text.
RowTransform = Callable[[str, int, int], str]


class Objective(Protocol):
    """Rows and their loss. The loop knows rows by their index, and nothing of texts, labels or tokens."""

    def __len__(self) -> int:
        """How many rows an epoch has."""

    def start_epoch(self, epoch: int) -> Sequence[int]:
        """Draw the rows of an epoch (counted from 0); returns their lengths in tokens [rows].

        The loop calls this first, in every process, and again for the epoch in which a resumed run goes on.
        """

    def units(self, rows: Sequence[int]) -> int:
        """What the mean over a global batch counts: 1 for each row, say, or the tokens of its response."""

    def loss(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        """The loss of some rows, summed over their units: a scalar with a gradient.

        For no rows it is 0 and still went through ``model``: processes exchange gradients only if each has one.
        """
