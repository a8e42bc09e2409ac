"""Weights of a base under the names that transformers gives them when it loads the file, and the reverse.

transformers saves a mixture of experts expert by expert but holds it in memory as one stack, and it renames the modules
of some families. The rules here are transformers' own, applied to the base's names. Tensors are combined when read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from rora_cli.checkpoints.adapters.base import TensorSource


@dataclass(frozen=True)
class Info:
    """Type and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Made:
    """A weight that ``make`` computes from the tensors ``sources`` of a file, in that order."""

    sources: tuple[str, ...]
    make: Callable[[list[Tensor]], Tensor]


class ConvertedSource:
    """The weights that transformers makes of the tensors of ``reader``, for a model of the family ``model_type``."""

    def __init__(self, reader: TensorSource, model_type: str) -> None:
        self._reader = reader
        self._made: dict[str, _Made] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._last: tuple[str, Tensor] | None = None
        self._renamings, self._converters = _transforms(model_type)
        if self._renamings or self._converters:
            self._convert(sorted(reader.names(), key=_natural))

    def names(self) -> Iterable[str]:
        """The names of the weights that the file itself does not hold."""
        return list(self._made)

    def as_loaded(self, name: str) -> str:
        """The name in memory of a tensor that a file calls ``name``."""
        return self._renamed(name)[0]

    def slice_of(self, name: str, held: Callable[[str], str | None]) -> str | None:
        """A name for the part of a stack of experts that an older file calls ``name``; None if it is no such part.

        ``held`` finds the stack by its name in memory.
        """
        loaded, pattern = self._renamed(name)
        stack = held(loaded) if pattern is not None else None
        numbers = re.findall(r"\.experts\.(\d+)\.", name)
        if stack is None or pattern is None or len(numbers) != 1:
            return None
        expert, converter = int(numbers[0]), self._converter(pattern)
        if not _stacks(converter) or expert >= self._reader.info(stack).shape[0]:
            return None
        part, parts = converter.source_patterns.index(pattern), len(converter.source_patterns)
        self._made[name] = _Made((stack,), lambda tensors: tensors[0][expert].chunk(parts, dim=0)[part])
        return name

    def info(self, name: str) -> Any:
        """Type and shape of a weight, the file's own or a made one."""
        made = self._made.get(name)
        if made is None:
            return self._reader.info(name)
        import torch

        infos = [self._reader.info(source) for source in made.sources]
        if name not in self._shapes:
            self._shapes[name] = tuple(made.make([torch.empty(info.shape, device="meta") for info in infos]).shape)
        return Info(str(infos[0].dtype), self._shapes[name])

    def read(self, name: str) -> Tensor:
        """A weight ``[...]``, the file's own or a made one."""
        made = self._made.get(name)
        if made is None:
            return self._reader.read(name)
        if self._last is None or self._last[0] != name:  # callers ask for the experts of a stack one by one
            self._last = name, made.make([self._reader.read(source) for source in made.sources])
        return self._last[1]

    def _convert(self, names: list[str]) -> None:
        collected: dict[str, dict[str, list[str]]] = {}
        for name in names:
            loaded, pattern = self._renamed(name)
            if pattern is not None:
                collected.setdefault(loaded, {}).setdefault(pattern, []).append(name)
            elif loaded != name:
                self._made[loaded] = _Made((name,), lambda tensors: tensors[0])
        for loaded, by_pattern in collected.items():
            converter = self._converter(next(iter(by_pattern)))
            sources = tuple(name for members in by_pattern.values() for name in members)
            if _stacks(converter) and len({len(members) for members in by_pattern.values()}) == 1:
                self._made[loaded] = _Made(sources, _maker(converter, by_pattern))

    def _renamed(self, name: str) -> tuple[str, str | None]:
        from transformers.core_model_loading import rename_source_key

        return rename_source_key(name, self._renamings, self._converters)

    def _converter(self, pattern: str) -> Any:
        return next(c for c in self._converters if pattern in c.source_patterns)


def _transforms(model_type: str) -> tuple[list[Any], list[Any]]:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    rules = get_checkpoint_conversion_mapping(model_type) or []
    return [r for r in rules if isinstance(r, WeightRenaming)], [r for r in rules if isinstance(r, WeightConverter)]


def _stacks(converter: Any) -> bool:
    """Whether a converter stacks experts and does nothing else."""
    kinds = [(type(op).__name__, getattr(op, "dim", None)) for op in converter.operations]
    return len(converter.target_patterns) == 1 and kinds in (
        [("MergeModulelist", 0)],
        [("MergeModulelist", 0), ("Concatenate", 1)],
    )


def _maker(converter: Any, by_pattern: Mapping[str, list[str]]) -> Callable[[list[Tensor]], Tensor]:
    """A function that applies the converter's operations to the tensors of each of its patterns."""
    sizes = {pattern: len(members) for pattern, members in by_pattern.items()}

    def make(tensors: list[Tensor]) -> Tensor:
        queue = iter(tensors)
        collected: dict[str, Any] = {pattern: [next(queue) for _ in range(size)] for pattern, size in sizes.items()}
        for operation in converter.operations:
            collected = operation.convert(
                collected, source_patterns=converter.source_patterns, target_patterns=converter.target_patterns
            )
        return next(iter(collected.values()))

    return make


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isascii() and part.isdigit() else (1, part) for part in name.split(".")]
