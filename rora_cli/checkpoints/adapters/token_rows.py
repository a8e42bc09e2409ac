"""PEFT's trainable tokens: they replace single rows of an embedding, alone or beside a LoRA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from rora_cli.checkpoints.adapters.adapter import AdapterModule, Update
from rora_cli.checkpoints.adapters.names import group_parts, module_name
from rora_cli.checkpoints.adapters.source import Reading, Source

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {".token_adapter.trainable_tokens_delta": "rows", ".trainable_tokens_delta": "rows"}
#: Largest number of ids that a sentence lists.
_SHOWN = 8


def read(source: Source) -> Reading:
    """Every embedding with replaced rows."""
    reading = Reading()
    read_rows(source, reading, source.names(), source.config.get("token_indices"))
    return reading


def read_rows(source: Source, reading: Reading, names: Iterable[str], indices: object) -> None:
    """Add an update for every set of replaced rows among ``names``; ``indices`` are those of the config."""
    groups, _ = group_parts(names, _PARTS)
    for path, parts in groups.items():
        _module(source, reading, module_name(path), parts["rows"], indices)


def _module(source: Source, reading: Reading, module: str, rows: str, indices: object) -> None:
    if isinstance(indices, Mapping):
        indices = next((ids for key, ids in indices.items() if f".{module}".endswith(f".{key}")), None)
    shape = source.shape(rows)
    if not isinstance(indices, list) or not all(type(i) is int and i >= 0 for i in indices):
        return reading.skip([rows], f"the config does not say which rows of {module} are replaced")
    if len(shape) != 2 or shape[0] != len(indices) or len(set(indices)) != len(indices):
        return reading.skip([rows], f"it has the shape {list(shape)}, but the config names {len(indices)} rows")
    shown = ", ".join(map(str, indices[:_SHOWN])) + (", ..." if len(indices) > _SHOWN else "")
    why = f"{len(indices)} rows of the embedding are replaced (the tokens {shown}): how far they moved is told by W"
    found = source.base.find(module) if source.base else None
    if source.base is None or found is None:
        return reading.skip([rows], f"{why}; give the base model")
    stored = source.base.shape(found)
    if len(stored) != 2 or stored[1] != shape[1] or max(indices, default=0) >= stored[0]:
        return reading.skip([rows], f"it does not fit {found} of the base, which is {list(stored)}")
    build = partial(_update, source, rows, tuple(indices))
    turned = (stored[1], stored[0])
    reading.modules.append(
        AdapterModule(module, "embedding-rows", turned, shape[0], 1.0, (rows,), build, True, needs_base=why)
    )
    return None


def _update(source: Source, rows: str, indices: tuple[int, ...], W: Tensor | None) -> Update:
    """lora_B [d, k] holds the change of each row, and lora_A [k, V] says which row it is; W is [d, V]."""
    import torch

    assert W is not None
    at = torch.tensor(indices)
    moved = source.read(rows).double().T - W[:, at].double()
    chosen = torch.zeros(len(indices), W.shape[1], dtype=torch.float64)
    chosen[torch.arange(len(indices)), at] = 1.0
    return Update(chosen, moved)
