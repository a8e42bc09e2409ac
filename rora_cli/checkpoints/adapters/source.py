"""The input and the output of a format: an adapter's config and tensors, and the modules made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints.adapters.adapter import AdapterModule, Update
from rora_cli.checkpoints.adapters.base import BaseWeights
from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from rora_cli.checkpoints.reader import TensorReader


@dataclass(frozen=True)
class Source:
    """One adapter as a format sees it: its config, its tensors with their roles, and the base if there is one."""

    config: Mapping[str, Any]
    reader: TensorReader
    base: BaseWeights | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The names of all tensors."""
        return sorted(self.reader.names())

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header."""
        return tuple(self.reader.info(name).shape)

    def read(self, name: str) -> Tensor:
        """The tensor, in the shape ``[...]`` that the header states."""
        return self.reader.read(name)

    def scalar(self, name: str) -> float:
        """The first entry of a tensor; without torch if its type allows. Raises CheckpointError for an empty tensor."""
        from rora_cli.checkpoints.reader import ARRAY_TYPES

        if not prod(self.shape(name)):
            raise CheckpointError(f"{name[:80]!a} is empty.")
        if self.reader.info(name).dtype not in ARRAY_TYPES:
            return float(self.read(name).flatten()[0])
        from rora_cli.spectral.factors import widened

        return float(widened(self.reader.read_array(name)).flat[0])


@dataclass
class Reading:
    """The result of a format: modules, and a reason for every tensor that belongs to none of them."""

    modules: list[AdapterModule] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def skip(self, names: Iterable[str], reason: str) -> None:
        """Record why these tensors could not be analysed."""
        self.unmeasured.update(dict.fromkeys(names, reason))

    def set_aside(self, names: Iterable[str], reason: str) -> None:
        """Record why these tensors hold no update of a weight by their nature."""
        self.aside.update(dict.fromkeys(names, reason))

    def accounted(self) -> set[str]:
        """The names of all tensors that belong to a module or have a reason."""
        return {name for module in self.modules for name in module.tensors} | self.unmeasured.keys() | self.aside.keys()


def low_rank(source: Source, B: str, A: str, scaling: float) -> Callable[[Tensor | None], Update]:
    """A ``build`` function for the usual update, of tensors ``B`` [d_out, r] and ``A`` [r, d_in] of the file.

    Convolution kernels are flattened.
    """
    return partial(_low_rank, source, B, A, scaling)


def _low_rank(source: Source, B: str, A: str, scaling: float, _: Tensor | None) -> Update:
    return Update(source.read(A).flatten(1), source.read(B).flatten(1), scaling)
