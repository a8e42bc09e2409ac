"""The exact spectrum of a product B A from its factors, in numpy: torch takes longer to start than this takes to run.

numpy has no bfloat16, so here a uint16 matrix holds the bits of a bfloat16 one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from rora_cli.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Size of a factor [entries]: below this, a QR costs no more than the Gram matrix and its checks.
QR_ENTRIES = 1 << 9
#: Entries that are widened at a time: a piece in float32, and BLAS's packed copy of it, fit into a core's own cache.
_PIECE = 1 << 17
#: Ways by a Cholesky factor R of the Gram matrix, tried in this order before a QR: (min. entries of the matrix,
#: precision of sums, min. ratio of the smallest to the largest entry on R's diagonal, min. size of the smallest).
#: The Gram matrix squares the condition number: a ratio of 1e-3 keeps 10 of float64's 16 digits. Sums in float32 are
#: twice as fast and lose 1e-7 of the largest square: a ratio of .1 keeps 1e-5, finer than entries of 8 or 11 bits
#: resolve. Below the minimum size, squares are subnormal and lose digits.
_WIDE = ((QR_ENTRIES, np.float64, 1e-3, 1e-140),)
_HALF = ((1 << 16, np.float32, 0.1, 1e-14), *_WIDE)


def product_singular_values(lora_B: NDArray[Any], lora_A: NDArray[Any]) -> NDArray[Any]:
    """Singular values [min(r, d_out, d_in)] of B A, descending, float64, for B [d_out, r] and A [r, d_in].

    Raises CheckpointError for factors that are no matrices, do not fit each other, or are not finite.
    """
    for name, factor in (("lora_A", lora_A), ("lora_B", lora_B)):
        if factor.ndim != 2 or factor.size == 0:
            raise CheckpointError(f"{name} has shape {factor.shape}, but a non-empty matrix is needed.")
    if lora_B.shape[1] != lora_A.shape[0]:
        raise CheckpointError(f"lora_B {lora_B.shape} and lora_A {lora_A.shape} do not agree on the rank.")
    return np.linalg.svd(triangular_factor(lora_B) @ triangular_factor(lora_A.T).T, compute_uv=False)


def triangular_factor(tall: NDArray[Any]) -> NDArray[Any]:
    """R [min(m, r), r] in float64 with R^T R = X^T X for X [m, r]: the spectrum of a product depends on X by R alone.

    Raises CheckpointError for NaN or infinite values.
    """
    for entries, precision, least_ratio, least in _HALF if tall.dtype.itemsize == 2 else _WIDE:
        if tall.size > entries and tall.shape[1] < min(tall.shape[0], _PIECE):
            R = _cholesky(_gram(tall, precision), least_ratio, least)
            if R is not None:
                return R
    wide = widened(tall)
    require_finite(wide, "factor")
    if not wide.any():  # lora_B before training: R is zero, without a QR
        return np.zeros((min(wide.shape), wide.shape[1]))
    return np.asarray(np.linalg.qr(wide, mode="r"))


def require_finite(matrix: NDArray[Any], name: str) -> None:
    """Raise CheckpointError if ``matrix`` [m, n] (uint16: the bits of bfloat16) has NaN or infinite values."""
    finite = (matrix & 0x7F80) != 0x7F80 if matrix.dtype == np.uint16 else np.isfinite(matrix)
    if not finite.all():
        raise CheckpointError(f"{name} has NaN or infinite values; it is broken, and its spectrum is not defined.")


def widened(matrix: NDArray[Any], precision: Any = np.float64) -> NDArray[Any]:
    """A copy [m, n] of ``matrix`` [m, n] in float32 or float64, in its memory order; uint16 holds bits of bfloat16."""
    if matrix.dtype == np.uint16:
        matrix = np.left_shift(matrix, 16, dtype=np.uint32).view(np.float32)
    return matrix.astype(precision, copy=False)


def _gram(tall: NDArray[Any], precision: Any) -> NDArray[Any]:
    """X^T X [r, r] in float64; pieces are summed in ``precision``, where entries of 8 or 11 bits multiply exactly."""
    rows = _PIECE // tall.shape[1]
    total = np.zeros((tall.shape[1], tall.shape[1]))
    with np.errstate(all="ignore"):  # a sum that overflows is infinite, and _cholesky refuses it
        for start in range(0, tall.shape[0], rows):
            piece = _piece(tall[start : start + rows], precision)
            total += piece.T @ piece
    return total


class _Scratch(threading.local):
    """Memory for one piece in either precision, kept between calls: fresh pages cost as much as the products do."""

    def __init__(self) -> None:
        self.singles, self.doubles = np.empty(_PIECE, np.float32), np.empty(_PIECE, np.float64)


_scratch = _Scratch()


def _piece(matrix: NDArray[Any], precision: Any) -> NDArray[Any]:
    """:func:`widened` in the scratch memory; the next call overwrites it."""
    if matrix.strides[0] < matrix.strides[1]:
        return _piece(matrix.T, precision).T
    narrow = matrix.dtype.itemsize == 2
    wide = _scratch.singles[: matrix.size].reshape(matrix.shape)
    if matrix.dtype == np.uint16:
        np.left_shift(matrix, 16, out=wide.view(np.uint32), dtype=np.uint32)
    elif narrow:
        np.copyto(wide, matrix)
    if precision is np.float32:
        return wide
    doubles = _scratch.doubles[: matrix.size].reshape(matrix.shape)
    np.copyto(doubles, wide if narrow else matrix)
    return doubles


def _cholesky(gram: NDArray[Any], least_ratio: float, least: float) -> NDArray[Any] | None:
    """R [r, r] with R^T R = ``gram`` [r, r]; None if R would lose too many digits."""
    try:
        R = np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError:
        return None
    diagonal = R.diagonal()
    return R if diagonal.min() > max(least_ratio * diagonal.max(), least) else None  # false for NaN as well
