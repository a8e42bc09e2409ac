"""Writes a checkpoint anew with some of its weights changed: tensor by tensor, so that memory stays flat."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters.base import BaseWeights
from rora_cli.checkpoints.layouts import MODEL_FILE
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.reader import TensorReader, is_finite
from rora_cli.errors import CheckpointError
from rora_cli.tensor_files import TORCH_TYPES, Pending, write_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Change:
    """What becomes of a weight.

    Attributes:
        shape: of the new value.
        make: the new value [shape], given the source's in float32; None where the source has no such tensor.
    """

    shape: tuple[int, ...]
    make: Callable[[Tensor | None], Tensor]


def stored_names(source: Inspection, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str] | None:
    """The name in the source's files of each weight of the model, whose ``shapes`` are given by its own names.

    None where one has none of the same shape: transformers makes it of other tensors when it loads the source.
    """
    reader = TensorReader(source)
    base = BaseWeights(reader, source.config)
    names = {}
    for name, shape in shapes.items():
        module, _, parameter = name.rpartition(".")
        found = name if name in source.tensors else base.find(module, parameter)
        if found is None or found not in source.tensors or source.tensors[found].shape != shape:
            return None
        names[name] = found
    return names if len(set(names.values())) == len(names) else None


def write_changed(
    source: Inspection,
    directory: Path,
    changes: Mapping[str, Change],
    *,
    left_out: Collection[str] = (),
    dtype: torch.dtype | None = None,
) -> None:
    """Write the weights of ``source`` into ``directory``, with the ``changes`` by their names in its files.

    One tensor after the other is read, changed in float32, rounded to its own type and written, into as many files as
    the source has. A change of a name that the source lacks is added in float32, or in ``dtype``.

    Args:
        left_out: tensors of the source that are not written.
        dtype: of every floating tensor, instead of its own.

    Raises:
        CheckpointError: a tensor cannot be read, or a new value is not finite in the type that it is to have.
    """
    with TensorReader(source) as reader:
        shards = [list(shard) for shard in _shards(reader, changes, set(left_out), dtype)]
        added = [name for name in changes if name not in source.tensors]
        shards[-1] += [_pending(reader, name, changes[name], dtype) for name in added]
        total = sum(tensor.size for shard in shards for tensor in shard)
        places: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            file = MODEL_FILE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write_tensors(directory / file, shard)
            places |= {tensor.name: file for tensor in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (directory / f"{MODEL_FILE}.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(
    reader: TensorReader, changes: Mapping[str, Change], left_out: set[str], dtype: torch.dtype | None
) -> Iterable[list[Pending]]:
    files: dict[str, list[Pending]] = {}
    for name in reader.names():
        if name not in left_out:
            files.setdefault(reader.info(name).file, []).append(_pending(reader, name, changes.get(name), dtype))
    return files.values()


def _pending(reader: TensorReader, name: str, change: Change | None, dtype: torch.dtype | None) -> Pending:
    import torch

    info = reader.info(name) if name in reader else None
    own = torch.float32 if info is None else getattr(torch, TORCH_TYPES[info.dtype])
    to = dtype if dtype is not None and own.is_floating_point else own
    if change is not None:
        return Pending(name, to, change.shape, partial(_changed, reader, name, change, to))
    assert info is not None
    return Pending(name, to, info.shape, lambda: reader.read(name, to))


def _changed(reader: TensorReader, name: str, change: Change, dtype: torch.dtype) -> Tensor:
    import torch

    value = change.make(reader.read(name, torch.float32) if name in reader else None)
    made = value.detach().to(device="cpu", dtype=dtype)
    if not is_finite(made):
        raise CheckpointError(
            f"the new {name} does not fit {str(dtype).removeprefix('torch.')}; use --output-dtype float32"
        )
    return made
