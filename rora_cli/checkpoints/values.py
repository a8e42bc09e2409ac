"""The values of a checkpoint's tensors, streamed: which tensors hold NaN or infinity. Reads with numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rora_cli.checkpoints.header import TensorInfo, quoted
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.checkpoints.rules import finding
from rora_cli.errors import CheckpointError
from rora_cli.results.findings import Finding

if TYPE_CHECKING:
    import numpy as np

#: Bytes that are held at a time, whatever the size of a tensor.
CHUNK = 8 << 20
#: Tensors that a finding names.
_NAMED = 50


@dataclass(frozen=True)
class _Pattern:
    """A value is NaN or infinite if ``bits & mask == bits_set``, of an unsigned word of ``word`` bytes."""

    word: int
    mask: int
    bits_set: int


def _all_ones(word: int, mask: int) -> _Pattern:
    return _Pattern(word, mask, mask)


#: safetensors' name of a type -> its values that are not finite. IEEE 754's have an exponent of ones; the 8-bit types
#: are those of the OCP's 8-bit floating point and microscaling formats, and ONNX's FNUZ. Types not here have none.
_NOT_FINITE: Mapping[str, _Pattern] = {
    "F16": _all_ones(2, 0x7C00), "BF16": _all_ones(2, 0x7F80), "F32": _all_ones(4, 0x7F80_0000),
    "C64": _all_ones(4, 0x7F80_0000), "F64": _all_ones(8, 0x7FF0_0000_0000_0000), "F8_E5M2": _all_ones(1, 0x7C),
    "F8_E4M3": _all_ones(1, 0x7F), "F8_E8M0": _all_ones(1, 0xFF), "F8_E5M2FNUZ": _Pattern(1, 0xFF, 0x80),
    "F8_E4M3FNUZ": _Pattern(1, 0xFF, 0x80),
}  # fmt: skip


def value_findings(inspection: Inspection, advance: Callable[[int], None] = lambda size: None) -> Iterator[Finding]:
    """What the values of the inspected tensors show: NaN or infinity, or that they cannot be read.

    At most ``CHUNK`` bytes are held at a time. ``advance`` is told of the bytes that are done.
    """
    broken: list[str] = []
    first: TensorInfo | None = None
    with TensorReader(inspection) as reader:
        for name, info in inspection.tensors.items():
            try:
                count = _count_not_finite(reader, info, advance)
            except CheckpointError as error:
                yield finding("tensor/values-unread", str(error), info.file, tensor=name)
                return
            if count:
                broken.append(name)
                first = first or info
    if first is not None:
        others = f" and {len(broken) - 1} other tensors" if len(broken) > 1 else ""
        message = f"{quoted(first.name)} in {first.file}{others} hold{'' if others else 's'} NaN or infinite values"
        yield finding("tensor/not-finite", message, first.file, tensors=broken[:_NAMED], count=len(broken))


def _count_not_finite(reader: TensorReader, info: TensorInfo, advance: Callable[[int], None]) -> int:
    import numpy as np

    pattern, found = _NOT_FINITE.get(info.dtype), 0
    if pattern is None:
        advance(info.end - info.start)
        return 0
    for piece in reader.read_bytes(info.name, CHUNK):
        words: np.ndarray = np.frombuffer(piece, f"<u{pattern.word}")
        found += int(np.count_nonzero((words & words.dtype.type(pattern.mask)) == pattern.bits_set))
        advance(len(piece))
    return found
