"""The header of a safetensors file; rora reads and checks it itself, without reading or mapping a tensor.

Format (huggingface/safetensors, "Format"): 8 bytes N, little-endian; N bytes of JSON, padded with spaces; the data.
Every tensor has ``dtype``, ``shape`` and ``data_offsets`` [begin, end) into the data, which together cover it without
a hole or an overlap.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rora_cli import system
from rora_cli.checkpoints import strict_json

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 200_000
MAX_NAME_LENGTH = 512
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 40

#: The format's name of a type -> size of an element [bits].
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class HeaderError(ValueError):
    """A file that is not a well-formed safetensors file; the text is the rest of the sentence "FILE ..."."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its bytes ``start`` to ``end`` of ``file``, a name relative to the inspected directory."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    end: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """``tensors`` in the order of the data, and the file's ``__metadata__``, which its author may fill as he likes."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    file_size: int
    header_bytes: int


def read_header(path: Path, file: str | None = None) -> Header:
    """Read and check the header of the safetensors file ``path``; ``file`` is the name its tensors are given.

    Raises:
        HeaderError: the file is malformed, or larger in some respect than the bounds above.
        OSError: it cannot be opened or read.
    """
    descriptor = os.open(path, system.READ)  # so that a pipe does not block the walk
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise HeaderError("is not a regular file")
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise HeaderError(
                f"is {'too short' if prefix else 'empty, too short'} to be a safetensors file ({status.st_size} bytes)"
            )
        length = int.from_bytes(prefix, "little")
        if not length:
            raise HeaderError("starts with nothing but zero bytes: its download broke off")
        if length > status.st_size - 8:
            raise HeaderError(
                f"is not a safetensors file or is cut off (it states a header of {length:,} bytes, "
                f"but has {status.st_size:,} in all)"
            )
        if length > MAX_HEADER_BYTES:
            raise HeaderError(f"has a header of {length:,} bytes, more than the {MAX_HEADER_BYTES:,} that rora reads")
        raw = _read_exactly(stream, length)
    return parse_header(raw, file or path.name, status.st_size)


def parse_header(raw: bytes, file: str, file_size: int) -> Header:
    """The header whose JSON is ``raw`` (without the length), of a file of ``file_size`` bytes. Raises HeaderError."""
    if raw[:1] != b"{":
        raise HeaderError("has a header that does not start with '{'")
    try:
        value = strict_json.loads(raw.rstrip(b" "), max_values=12 * MAX_TENSORS)
    except strict_json.JsonError as error:
        raise HeaderError(f"has a header that {error}") from None
    metadata = value.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise HeaderError("has a __metadata__ that is not a mapping of text to text")
    if len(value) > MAX_TENSORS:
        raise HeaderError(f"holds {len(value):,} tensors, more than the {MAX_TENSORS:,} that rora reads")
    base = 8 + len(raw)
    tensors = [_tensor(name, entry, file, base, file_size) for name, entry in value.items()]
    tensors.sort(key=lambda t: (t.start, t.end))
    position = base
    for tensor in tensors:
        if tensor.start != position:
            fault = "overlap" if tensor.start < position else "leave a hole before"
            raise HeaderError(f"has data ranges that {fault} the tensor {quoted(tensor.name)}")
        position = tensor.end
    if position != file_size:
        what = "is cut off" if position > file_size else "carries bytes that no tensor owns"
        raise HeaderError(f"{what}: its tensors end at byte {position:,} of {file_size:,}")
    return Header({t.name: t for t in tensors}, metadata, file_size, len(raw))


def quoted(name: str, limit: int = 120) -> str:
    """A name from an untrusted file, made safe for a sentence: escaped, without log commands, cut if it is long."""
    text = ascii(name).replace("::", ":\\x3a").replace("##", "#\\x23")
    return text if len(text) <= limit else f"{text[:limit]}...'"


def _tensor(name: str, entry: Any, file: str, base: int, file_size: int) -> TensorInfo:
    shown = quoted(name)
    if len(name) > MAX_NAME_LENGTH:
        raise HeaderError(f"has a tensor name of {len(name):,} characters ({quoted(name, 40)})")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise HeaderError(f"describes the tensor {shown} with other fields than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise HeaderError(f"gives the tensor {shown} the unknown dtype {quoted(str(dtype), 40)}")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS or any(d > MAX_DIMENSION for d in shape):
        raise HeaderError(f"gives the tensor {shown} an impossible shape")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise HeaderError(f"gives the tensor {shown} impossible data offsets")
    start, end = base + offsets[0], base + offsets[1]
    if end > file_size:
        raise HeaderError(f"is cut off: the tensor {shown} ends at byte {end:,} of {file_size:,}")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or bits // 8 != end - start:
        raise HeaderError(
            f"gives the tensor {shown} {end - start:,} bytes where its shape and dtype need {bits / 8:,.0f}"
        )
    return TensorInfo(name, dtype, tuple(shape), file, start, end)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _read_exactly(stream: Any, length: int) -> bytes:
    pieces = []
    while length > 0:
        piece = stream.read(min(length, 1 << 22))
        if not piece:
            raise HeaderError("is cut off inside its header")
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
