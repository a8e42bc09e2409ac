"""Singular values and subspaces: exact for a low-rank product, from its factors; by iteration for the top of a large W.

Nothing here forms DeltaW or decomposes anything below float32, because SVD and QR fail in half precision on a CPU.
Every input is checked for finiteness first: NaN raises in torch, and infinity silently gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rora_cli.errors import CheckpointError
from rora_cli.spectral import factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Smaller side of W [entries]: up to this, a full SVD in float64 costs less than the iteration.
_DENSE_WIDTH = 512
#: Size of W [entries]: up to this, the iteration runs in float64; beyond, float32 is twice as fast and enough for 1e-6.
_FLOAT64_ENTRIES = 1 << 20
#: Directions that a Krylov block has beyond the k that were asked for.
_OVERSAMPLE = 32
#: Krylov blocks that the iteration computes at most.
_MAX_BLOCKS = 40
#: Width of the subspace [blocks] at which it is compressed to its best directions.
_MAX_WIDTH_IN_BLOCKS = 6
#: Residual of the top-k triplets [sigma_1]: up to this, their span is good enough to measure fractions of energy.
_SUBSPACE_TOLERANCE = 1e-2


@dataclass(frozen=True)
class ProductSVD:
    """The thin SVD of B A: U [d_out, r], S [r] descending, V [d_in, r], float64, r = min(rank, d_out, d_in)."""

    U: Tensor
    S: Tensor
    V: Tensor


@dataclass(frozen=True)
class TopSingular:
    """The top-k singular triplets of W [m, n]: U [m, k], S [k] descending, V [n, k].

    ``error_bound`` [k] bounds |S_i - sigma| for some singular value sigma of W, in W's units. It follows from the
    measured residual ||W^T u - S v|| and the rounding of the arithmetic. Only the random start makes it (almost) sure
    that the iteration missed no larger singular value.
    """

    U: Tensor
    S: Tensor
    V: Tensor
    error_bound: Tensor

    @property
    def sigma_max(self) -> float:
        """The largest singular value, in W's units."""
        return float(self.S[0])

    @property
    def sigma_max_relative_error(self) -> float:
        """The error bound of ``sigma_max``, as a fraction of it."""
        return float(self.error_bound[0] / self.S[0]) if self.S[0] > 0 else 0.0


def require_finite_matrix(matrix: Tensor, name: str = "matrix") -> None:
    """Raise CheckpointError unless ``matrix`` [m, n] is a non-empty matrix without NaN and infinity."""
    if matrix.ndim != 2 or matrix.numel() == 0:
        raise CheckpointError(f"{name} has shape {tuple(matrix.shape)}, but a non-empty matrix is needed.")
    # One reduction instead of a mask of W's size. It sums in float32, because finite values can overflow a float16 sum.
    total = matrix.sum(dtype=torch.float64 if matrix.dtype == torch.float64 else torch.float32)
    if not torch.isfinite(total) and not torch.isfinite(matrix).all():
        raise CheckpointError(f"{name} has NaN or infinite values; its spectrum is not defined.")


def product_singular_values(lora_B: Tensor, lora_A: Tensor) -> Tensor:
    """Singular values [min(r, d_out, d_in)] of B A, descending, float64, for B [d_out, r] and A [r, d_in].

    Raises CheckpointError as ``factors.product_singular_values``.
    """
    return torch.from_numpy(factors.product_singular_values(as_array(lora_B), as_array(lora_A)))


def as_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor [...] as an array [...] for :mod:`rora_cli.spectral.factors`; bfloat16 becomes uint16, with its bits."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.numpy()


def product_svd(lora_B: Tensor, lora_A: Tensor) -> ProductSVD:
    """The thin SVD of B A for B [d_out, r] and A [r, d_in], by QR of both factors in float64.

    Raises CheckpointError for factors that are no matrices, do not fit each other, or are not finite.
    """
    _check_factors(lora_B, lora_A)
    require_finite_matrix(lora_A, "lora_A")
    require_finite_matrix(lora_B, "lora_B")
    Q_B, R_B = torch.linalg.qr(lora_B.double())
    Q_A, R_A = torch.linalg.qr(lora_A.double().T)
    U, S, Vh = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
    return ProductSVD(Q_B @ U, S, Q_A @ Vh.T)


def top_singular(W: Tensor, k: int, *, seed: int = 0, tolerance: float = 1e-6) -> TopSingular:
    """The top ``k`` (capped at min(m, n)) singular triplets of W [m, n], on W's device.

    Block Krylov iteration with full reorthogonalisation and Rayleigh-Ritz (Musco and Musco, arXiv:1504.05477). It stops
    when the relative error bound of sigma_1 is at most ``tolerance`` and the top-k residuals at most 1 % of sigma_1.
    Raises CheckpointError as ``require_finite_matrix``.
    """
    require_finite_matrix(W, "W")
    k = max(1, min(k, *W.shape))
    if min(W.shape) <= 2 * k or (min(W.shape) <= _DENSE_WIDTH and W.numel() <= _FLOAT64_ENTRIES):
        U, S, Vh = torch.linalg.svd(W.double(), full_matrices=False)
        return TopSingular(U[:, :k], S[:k], Vh[:k].T, _rounding(W.double()) * S[0].expand(k))
    if W.dtype != torch.float64:
        W = W.to(torch.float64 if W.numel() <= _FLOAT64_ENTRIES else torch.float32)
    if W.shape[0] < W.shape[1]:
        flipped = _block_krylov(W.T, k, seed, tolerance)
        return TopSingular(flipped.V, flipped.S, flipped.U, flipped.error_bound)
    return _block_krylov(W, k, seed, tolerance)


def _rounding(W: Tensor) -> float:
    """The relative size of rounding errors in products with W."""
    return torch.finfo(W.dtype).eps * max(W.shape) ** 0.5


def _block_krylov(W: Tensor, k: int, seed: int, tolerance: float) -> TopSingular:
    n = W.shape[1]
    generator = torch.Generator().manual_seed(seed)
    width = min(n, k + _OVERSAMPLE)
    block = torch.linalg.qr(torch.randn(n, width, generator=generator, dtype=W.dtype).to(W.device)).Q
    space = _Space(block, W @ block, W)
    for _ in range(_MAX_BLOCKS):
        top, bound, residuals = space.top(k + 1)  # the k-th bound needs the gap to the next value
        converged = bound[0] <= tolerance * top.S[0] and residuals[:k].max() <= _SUBSPACE_TOLERANCE * top.S[0]
        if space.full or converged:
            break
        space.grow(W, width)
    found = _refined(W, TopSingular(top.U, top.S, top.V, bound + _rounding(W) * top.S[0]))
    return TopSingular(found.U[:, :k], found.S[:k], found.V[:, :k], found.error_bound[:k])


class _Space:
    """A subspace of W's right side with its images: orthonormal Q [n, p], W Q, W^T W Q and the Gram matrix of W Q.

    When p reaches ``_MAX_WIDTH_IN_BLOCKS`` blocks, a thick restart (Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000)
    compresses the subspace to its best directions, so that memory and the small eigenproblem stay bounded.
    """

    def __init__(self, basis: Tensor, images: Tensor, W: Tensor) -> None:
        self.basis, self.images, self.back = basis, images, W.T @ images
        self.gram = (images.T @ images).double()
        self.latest = self.back

    @property
    def full(self) -> bool:
        return self.basis.shape[1] >= self.basis.shape[0]

    def top(self, k: int) -> tuple[TopSingular, Tensor, Tensor]:
        """The best k triplets (Rayleigh-Ritz), their error bounds [k] and residuals [k].

        With v = Q c and u = W v / S, the residual W v - S u is zero, so r = ||W^T u - S v|| is the whole residual.
        """
        squares, C = torch.linalg.eigh(self.gram)
        self.directions = C.flip(1)
        C = self.directions[:, : k + 1]
        S = squares.flip(0)[: k + 1].clamp_min(0).sqrt()
        weights = (C / S.clamp_min(S[0] * 1e-12 + 1e-300)).to(self.basis.dtype)
        V, U, back_U = self.basis @ C.to(self.basis.dtype), self.images @ weights, self.back @ weights
        residuals = torch.linalg.vector_norm(back_U - V * S.to(V.dtype), dim=0).double()
        empty = TopSingular(U[:, :k], S[:k], V[:, :k], residuals[:k])
        return empty, _error_bound(S, residuals)[:k], residuals[:k]

    def grow(self, W: Tensor, width: int) -> None:
        """Add the next Krylov block, W^T W of the latest one, orthogonal to all before."""
        block = self.latest
        for _ in range(2):  # one pass leaves components along the basis in floating point; two do not (Parlett)
            block = torch.linalg.qr(block - self.basis @ (self.basis.T @ block)).Q
        block = block[:, : self.basis.shape[0] - self.basis.shape[1]]
        if self.basis.shape[1] >= _MAX_WIDTH_IN_BLOCKS * width:
            # Compress only now: the new block, orthogonal to all directions, holds the residuals of the kept ones.
            kept = self.directions[:, : 2 * width].to(self.basis.dtype)
            self.basis, self.images, self.back = self.basis @ kept, self.images @ kept, self.back @ kept
            self.gram = (self.images.T @ self.images).double()
        image = W @ block
        self.latest = W.T @ image
        cross = (self.images.T @ image).double()
        corner = (image.T @ image).double()
        self.gram = torch.cat([torch.cat([self.gram, cross], 1), torch.cat([cross.T, corner], 1)])
        self.basis = torch.cat([self.basis, block], dim=1)
        self.images = torch.cat([self.images, image], dim=1)
        self.back = torch.cat([self.back, self.latest], dim=1)


def _error_bound(S: Tensor, residuals: Tensor) -> Tensor:
    """|S_i - sigma| <= rho_i, and <= rho_i^2 / gap_i, with rho = r / sqrt 2 the residual of [[0, W], [W^T, 0]].

    The second bound holds if a gap_i separates S_i from the other singular values (Parlett, The Symmetric Eigenvalue
    Problem, theorem 11.7.1); each of these is assumed to lie within its own first bound.
    """
    rho = residuals / 2**0.5
    above = torch.cat([S.new_full((1,), float("inf")), S[:-1] - rho[:-1]]) - S
    below = S - torch.cat([S[1:] + rho[1:], S.new_full((1,), float("inf"))])
    gap = torch.minimum(above, below)
    return torch.where(gap > rho, rho**2 / gap, rho)


def _refined(W: Tensor, top: TopSingular) -> TopSingular:
    """``top`` with the value and residual of its leading triplet recomputed in float64, a slice of W at a time."""
    if W.dtype == torch.float64:
        return top
    v = top.V[:, 0].double()
    v = v / v.norm()
    squared, back = torch.zeros((), dtype=v.dtype, device=v.device), torch.zeros_like(v)
    for rows in W.split(512):
        wide = rows.double()
        image = wide @ v
        squared, back = squared + image @ image, back + wide.T @ image
    sigma = squared.sqrt()
    back = back / sigma  # W^T u with u = W v / sigma
    S = torch.cat([sigma[None], top.S[1:]])
    residuals = torch.cat([(back - sigma * v).norm()[None], top.error_bound[1:] * 2**0.5])
    bound = _error_bound(S, residuals)[0] + _rounding(v[:, None]) * sigma
    return TopSingular(top.U, S, top.V, torch.cat([bound[None], top.error_bound[1:]]))


def _check_factors(lora_B: Tensor, lora_A: Tensor) -> None:
    for name, factor in (("lora_A", lora_A), ("lora_B", lora_B)):
        if factor.ndim != 2 or factor.numel() == 0:
            raise CheckpointError(f"{name} has shape {tuple(factor.shape)}, but a non-empty matrix is needed.")
    if lora_B.shape[1] != lora_A.shape[0]:
        raise CheckpointError(
            f"lora_B {tuple(lora_B.shape)} and lora_A {tuple(lora_A.shape)} do not agree on the rank."
        )


def singular_values(matrix: Tensor) -> Tensor:
    """All singular values of a matrix [m, n], descending, float64."""
    require_finite_matrix(matrix)
    return torch.linalg.svdvals(matrix.double())


def thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [m, p], S [p] descending, V [n, p] of a matrix [m, n] in float64, p = min(m, n)."""
    require_finite_matrix(matrix)
    U, S, Vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return U, S, Vh.T
