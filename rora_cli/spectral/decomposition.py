"""Singular values and subspaces: exact ones of a low-rank product from its factors, the top of a large W by iteration.

Nothing here forms DeltaW, and nothing is decomposed below float32: on CPU, SVD and QR fail in half precision, NaN
raises and inf gives NaN without an exception, so every input is checked for finiteness first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rora_cli.errors import CheckpointError

#: Below this many entries a float64 QR is as fast as the Gram matrix, and it is exact for ill-conditioned factors.
_QR_ENTRIES = 1 << 16
#: A Cholesky factor of the Gram matrix loses the square of the condition number; 1e-4 keeps 8 of float64's 16 digits.
_CHOLESKY_MIN_RATIO = 1e-4
#: Up to this width of W's smaller side a full SVD in float64 costs less than iterating.
_DENSE_WIDTH = 192
#: W with at most this many entries is iterated in float64; beyond, float32 is enough for 1e-6 and twice as fast.
_FLOAT64_ENTRIES = 1 << 20
_OVERSAMPLE = 16
_MAX_BLOCKS = 24


@dataclass(frozen=True)
class ProductSVD:
    """The thin SVD of B A: U [d_out, r], S [r] descending, V [d_in, r], float64, r = min(rank, d_out, d_in)."""

    U: Tensor
    S: Tensor
    V: Tensor


@dataclass(frozen=True)
class TopSingular:
    """The top-k singular triplets of W [m, n]: U [m, k], S [k] descending, V [n, k].

    ``error_bound`` [k] bounds |S_i - sigma| for a singular value sigma of W, in W's units, from the measured residual
    ||W^T u - S v|| and the rounding of the arithmetic. That none larger was missed rests on the random start.
    """

    U: Tensor
    S: Tensor
    V: Tensor
    error_bound: Tensor

    @property
    def sigma_max(self) -> float:
        return float(self.S[0])

    @property
    def sigma_max_relative_error(self) -> float:
        return float(self.error_bound[0] / self.S[0]) if self.S[0] > 0 else 0.0


def require_finite_matrix(matrix: Tensor, name: str = "matrix") -> None:
    """Raise CheckpointError unless ``matrix`` is 2-D, not empty and has no NaN or infinity."""
    if matrix.ndim != 2 or matrix.numel() == 0:
        raise CheckpointError(f"{name} has shape {tuple(matrix.shape)}, but a non-empty matrix is needed.")
    # The sum of finite halves can overflow float16, hence float32; one reduction instead of a mask of W's size.
    total = matrix.sum(dtype=torch.float64 if matrix.dtype == torch.float64 else torch.float32)
    if not torch.isfinite(total) and not torch.isfinite(matrix).all():
        raise CheckpointError(f"{name} has NaN or infinite values; its spectrum is not defined.")


def product_singular_values(lora_B: Tensor, lora_A: Tensor) -> Tensor:
    """Singular values [min(r, d_out, d_in)] of B A, descending, float64, for B [d_out, r] and A [r, d_in]."""
    _check_factors(lora_B, lora_A)
    return torch.linalg.svdvals(triangular_factor(lora_B) @ triangular_factor(lora_A.T).T)


def product_svd(lora_B: Tensor, lora_A: Tensor) -> ProductSVD:
    """The thin SVD of B A for B [d_out, r] and A [r, d_in], by QR of both factors in float64."""
    _check_factors(lora_B, lora_A)
    Q_B, R_B = torch.linalg.qr(lora_B.double())
    Q_A, R_A = torch.linalg.qr(lora_A.double().T)
    U, S, Vh = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
    return ProductSVD(Q_B @ U, S, Q_A @ Vh.T)


def triangular_factor(tall: Tensor) -> Tensor:
    """R [min(m, r), r] in float64 with R^T R = X^T X for X [m, r]: all that a product's spectrum keeps of a factor."""
    if tall.numel() > _QR_ENTRIES and tall.shape[0] > tall.shape[1]:
        # bf16 and fp16 entries multiply exactly in float32, but sum in float64.
        tall = tall.double()
        R, failed = torch.linalg.cholesky_ex(tall.T @ tall, upper=True)
        diagonal = R.diagonal()
        if not failed and diagonal.min() > _CHOLESKY_MIN_RATIO * diagonal.max():
            return R
    return torch.linalg.qr(tall.double(), mode="r").R


def top_singular(W: Tensor, k: int, *, seed: int = 0, tolerance: float = 1e-6) -> TopSingular:
    """The top ``k`` (capped at min(m, n)) singular triplets of W [m, n], on W's device.

    Block Krylov iteration with full reorthogonalisation and Rayleigh-Ritz (Musco and Musco, arXiv:1504.05477); it stops
    when sigma_1's relative error bound is below ``tolerance`` and the top-k residuals are below 1 % of sigma_1.
    """
    require_finite_matrix(W, "W")
    k = max(1, min(k, *W.shape))
    if min(W.shape) <= max(_DENSE_WIDTH, 2 * k):
        U, S, Vh = torch.linalg.svd(W.double(), full_matrices=False)
        return TopSingular(U[:, :k], S[:k], Vh[:k].T, _rounding(W.double()) * S[0].expand(k))
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
    start = torch.randn(n, min(n, k + _OVERSAMPLE), generator=generator, dtype=W.dtype).to(W.device)
    basis = block = torch.linalg.qr(start).Q
    images = W @ block
    back = W.T @ images
    for _ in range(_MAX_BLOCKS):
        top, residuals = _rayleigh_ritz(basis, images, back, k)
        target = max(tolerance, _rounding(W)) * top.S[0]
        room = n - basis.shape[1]
        if room == 0 or (top.error_bound[0] <= target and residuals.max() <= 1e-2 * top.S[0]):
            break
        block = back[:, -block.shape[1] :]
        for _ in range(2):  # one pass leaves components along the basis in floating point; two do not (Parlett)
            block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
        block = block[:, :room]
        image = W @ block
        basis, images, back = (
            torch.cat(pair, dim=1) for pair in ((basis, block), (images, image), (back, W.T @ image))
        )
    return _refined(W, top)


def _rayleigh_ritz(basis: Tensor, images: Tensor, back: Tensor, k: int) -> tuple[TopSingular, Tensor]:
    """The best triplets in a subspace, and residuals [k]: orthonormal ``basis`` Q [n, p], W Q, and W^T W Q.

    With v = Q c and u = W v / S the residual W v - S u is zero, so r = ||W^T u - S v|| is the whole of it.
    """
    squares, C = torch.linalg.eigh(images.double().T @ images.double())
    C = C.flip(1)[:, : k + 1]
    S = squares.flip(0)[: k + 1].clamp_min(0).sqrt()
    weights = (C / S.clamp_min(S[0] * 1e-12 + 1e-300)).to(basis.dtype)
    V, U, back_U = basis @ C.to(basis.dtype), images @ weights, back @ weights
    residuals = torch.linalg.vector_norm(back_U.double() - V.double() * S, dim=0)
    bound = _error_bound(S, residuals) + _rounding(images) * S[0]
    return TopSingular(U[:, :k], S[:k], V[:, :k], bound[:k]), residuals[:k]


def _error_bound(S: Tensor, residuals: Tensor) -> Tensor:
    """|S_i - sigma| <= rho_i, and <= rho_i^2 / gap_i, with rho = r / sqrt 2 the residual of [[0, W], [W^T, 0]].

    The second holds where S_i is separated by gap_i from the other singular values (Parlett, The Symmetric Eigenvalue
    Problem, theorem 11.7.1), which are taken to lie within their own first bound.
    """
    rho = residuals / 2**0.5
    above = torch.cat([S.new_full((1,), float("inf")), S[:-1] - rho[:-1]]) - S
    below = S - torch.cat([S[1:] + rho[1:], S.new_full((1,), float("inf"))])
    gap = torch.minimum(above, below)
    return torch.where(gap > rho, rho**2 / gap, rho)


def _refined(W: Tensor, top: TopSingular) -> TopSingular:
    """The leading triplet with its value and residual taken in float64, a slice of W at a time."""
    if W.dtype == torch.float64:
        return top
    v = top.V[:, 0].double()
    v = v / v.norm()
    rows = [slice(i, i + 512) for i in range(0, W.shape[0], 512)]
    u = torch.cat([W[s].double() @ v for s in rows])
    sigma = u.norm()
    u = u / sigma
    back = sum((W[s].double().T @ u[s] for s in rows), start=torch.zeros_like(v))
    S = torch.cat([sigma[None], top.S[1:]])
    residuals = torch.cat([(back - sigma * v).norm()[None], top.error_bound[1:] * 2**0.5])
    bound = _error_bound(S, residuals)[0] + _rounding(v[:, None]) * sigma
    return TopSingular(top.U, S, top.V, torch.cat([bound[None], top.error_bound[1:]]))


def _check_factors(lora_B: Tensor, lora_A: Tensor) -> None:
    require_finite_matrix(lora_A, "lora_A")
    require_finite_matrix(lora_B, "lora_B")
    if lora_B.shape[1] != lora_A.shape[0]:
        raise CheckpointError(
            f"lora_B {tuple(lora_B.shape)} and lora_A {tuple(lora_A.shape)} do not agree on the rank."
        )


def thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [m, p], S [p] descending, V [n, p] of a matrix [m, n] in float64, p = min(m, n)."""
    require_finite_matrix(matrix)
    U, S, Vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return U, S, Vh.T
