"""Reads tensors from an inspected checkpoint, one at a time, by the byte ranges that preflight checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints.header import TensorInfo, quoted
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.walk import open_unchanged
from rora_cli.errors import CheckpointError
from rora_cli.tensor_files import TORCH_TYPES

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

#: safetensors' name of a type -> numpy's, for :meth:`TensorReader.read_array`; uint16 holds the bits of bfloat16.
ARRAY_TYPES: Mapping[str, str] = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}


class TensorReader:
    """Reads the tensors of ``inspection``; a context manager that keeps at most a few files open.

    It maps no file into memory, so a file that somebody cuts off gives an error instead of a bus fault. It refuses a
    file that was changed after the inspection.
    """

    def __init__(self, inspection: Inspection) -> None:
        self.inspection = inspection
        self._open: dict[str, int] = {}

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; reading opens them again."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def names(self) -> tuple[str, ...]:
        """The names in the order in which the tensors lie on disk."""
        return tuple(self.inspection.tensors)

    def __contains__(self, name: str) -> bool:
        return name in self.inspection.tensors

    def info(self, name: str) -> TensorInfo:
        """Dtype, shape and place of a tensor.

        Raises:
            CheckpointError: there is no such tensor.
        """
        try:
            return self.inspection.tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.inspection.path} has no tensor {quoted(name)}") from None

    def read(self, name: str, dtype: torch.dtype | None = None, *, require_finite: bool = False) -> Tensor:
        """One tensor ``[...]`` of the header's shape, in its own memory, converted to ``dtype`` if that is given.

        Raises:
            CheckpointError: no such tensor, a type that torch cannot hold, a file that changed, or, with
                ``require_finite``, a NaN or infinity.
        """
        import torch

        info = self.info(name)
        own = getattr(torch, TORCH_TYPES.get(info.dtype, ""), None)
        if own is None:
            raise CheckpointError(f"{quoted(name)} in {info.file} has the type {info.dtype}, which rora cannot read")
        buffer = bytearray(info.end - info.start)
        self._fill(info, memoryview(buffer))
        tensor = torch.frombuffer(buffer, dtype=own) if buffer else torch.empty(0, dtype=own)
        tensor = tensor.reshape(info.shape)
        if dtype is not None:
            tensor = tensor.to(dtype)
        if require_finite and tensor.is_floating_point() and not is_finite(tensor):
            raise CheckpointError(
                f"{quoted(name)} in {info.file} holds NaN or infinite values: it is broken, get another copy"
            )
        return tensor

    def read_array(self, name: str, buffer: bytearray | None = None) -> NDArray[Any]:
        """One floating tensor ``[...]`` of the header's shape as an array, without torch; bfloat16 as uint16 bits.

        The array lies in ``buffer`` if that is large enough, until somebody uses it again; else in its own memory.

        Raises:
            CheckpointError: no such tensor, a type not in ``ARRAY_TYPES``, or a file that changed.
        """
        import numpy as np

        info = self.info(name)
        if info.dtype not in ARRAY_TYPES:
            raise CheckpointError(f"{quoted(name)} in {info.file} has the type {info.dtype}, which rora cannot read")
        size = info.end - info.start
        if buffer is None or len(buffer) < size:
            buffer = bytearray(size)
        self._fill(info, memoryview(buffer)[:size])
        return np.frombuffer(buffer, ARRAY_TYPES[info.dtype], info.elements).reshape(info.shape)

    def read_bytes(self, name: str, size: int) -> Iterator[memoryview]:
        """The bytes of one tensor in pieces of ``size``; a piece is overwritten by the next.

        Raises:
            CheckpointError: no such tensor, or a file that changed or cannot be read.
        """
        info = self.info(name)
        buffer = memoryview(bytearray(min(size, info.end - info.start)))
        for start in range(info.start, info.end, size):
            piece = buffer[: min(size, info.end - start)]
            self._fill(info, piece, start)
            yield piece

    def _fill(self, info: TensorInfo, view: memoryview, start: int | None = None) -> None:
        """Fill ``view`` with the file's bytes from ``start`` on, by default from where the tensor begins."""
        descriptor, position = self._descriptor(info.file), info.start if start is None else start
        try:
            while view:
                count = os.preadv(descriptor, [view[: 1 << 30]], position)
                if count == 0:
                    raise CheckpointError(f"{info.file} was cut off while it was read; get another copy")
                view, position = view[count:], position + count
        except OSError as error:
            raise CheckpointError(f"{info.file} cannot be read: {error.strerror}") from error

    def _descriptor(self, file: str) -> int:
        if file in self._open:
            return self._open[file]
        if len(self._open) >= 16:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[file] = open_unchanged(self.inspection.files[file])
        return self._open[file]


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating tensor ``[...]`` has no NaN and no infinity, without a temporary of its size."""
    import torch

    if tensor.numel() == 0:
        return True
    if tensor.dtype.itemsize == 1:  # the 8-bit floats have no min and max
        tensor = tensor.to(torch.float32)
    low, high = torch.aminmax(tensor)  # both propagate NaN
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))
