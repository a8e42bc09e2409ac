"""Writes safetensors files tensor by tensor, so that no more than one tensor is in memory beside the model.

safetensors' own writer copies a whole file into memory first. The format: the length of the header (8 bytes, little
endian), the header as JSON, then the bytes of the tensors in the header's order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: safetensors' name of a type -> torch's. torch cannot hold the types that are missing here (C64, sub-byte types).
TORCH_TYPES: Mapping[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
_NAMES = {torch_name: name for name, torch_name in TORCH_TYPES.items()}


@dataclass(frozen=True)
class Pending:
    """A tensor that is yet to be made and written.

    Attributes:
        dtype: torch's type, which ``make`` gives.
        make: gives the tensor [shape] when its turn comes; it is let go once it is written.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """The tensor's size [bytes]."""
        return prod(self.shape) * self.dtype.itemsize


def write_tensors(path: Path, tensors: Sequence[Pending], metadata: Mapping[str, str] | None = None) -> None:
    """Write ``tensors`` to ``path``, one after the other; those of wide types come first, so that all lie aligned.

    Raises:
        ValueError: a tensor has another type or shape than was said.
        OSError: the disk fails.
    """
    ordered = sorted(tensors, key=lambda t: -t.dtype.itemsize)
    header: dict[str, object] = {"__metadata__": dict(metadata or {"format": "pt"})}
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.size
        name = _NAMES[str(tensor.dtype).removeprefix("torch.")]
        header[tensor.name] = {"dtype": name, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in ordered:
            made = tensor.make()
            if made.dtype != tensor.dtype or tuple(made.shape) != tensor.shape:
                raise ValueError(f"{tensor.name} is {made.dtype} {list(made.shape)}, not as the header says")
            file.write(_bytes(made))
            del made


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
