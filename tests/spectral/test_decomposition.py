"""Singular values from factors and from iteration, against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rora_cli.errors import CheckpointError
from rora_cli.spectral import decomposition
from rora_cli.spectral import factors as factors_module
from rora_cli.spectral.decomposition import (
    product_singular_values,
    product_svd,
    require_finite_matrix,
    thin_svd,
    top_singular,
)

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31))


def factors(shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    d_out, r, d_in, seed = shape
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(d_out, r, generator=generator, dtype=torch.float64)
    return B, torch.randn(r, d_in, generator=generator, dtype=torch.float64)


@given(SHAPES)
def test_sigma_from_factors_is_that_of_the_dense_product(shape: tuple[int, int, int, int]) -> None:
    B, A = factors(shape)
    values, dense = product_singular_values(B, A), torch.linalg.svdvals(B @ A)
    n = min(len(values), len(dense))
    torch.testing.assert_close(values[:n], dense[:n], rtol=1e-9, atol=1e-10)
    assert float(values[n:].sum() + dense[n:].sum()) < 1e-9


@given(SHAPES, st.integers(0, 2**31))
def test_only_the_product_counts(shape: tuple[int, int, int, int], seed: int) -> None:
    """B M and M^-1 A are the same update, and a factor on B is a factor on every singular value."""
    B, A = factors(shape)
    M = torch.linalg.qr(torch.randn(len(A), len(A), generator=torch.Generator().manual_seed(seed)).double()).Q
    M = M * torch.linspace(0.5, 2, len(A), dtype=torch.float64)
    values = product_singular_values(B, A)
    torch.testing.assert_close(product_singular_values(B @ M, torch.linalg.inv(M) @ A), values, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(product_singular_values(-3 * B, A), 3 * values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(product_singular_values(A.T, B.T), values, rtol=1e-9, atol=1e-10)


@given(SHAPES)
def test_product_svd_multiplies_back(shape: tuple[int, int, int, int]) -> None:
    B, A = factors(shape)
    svd = product_svd(B, A)
    torch.testing.assert_close(svd.U * svd.S @ svd.V.T, B @ A, rtol=1e-9, atol=1e-9)
    assert bool((svd.S[:-1] >= svd.S[1:]).all())


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-10), (torch.float16, 2e-6), (torch.bfloat16, 2e-6)])
@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_large_factors_of_every_type(dtype: torch.dtype, error: float, condition: float) -> None:
    generator = torch.Generator().manual_seed(0)
    columns = torch.logspace(0, -torch.tensor(condition).log10(), 20)
    B = (torch.randn(14_000, 20, generator=generator) * columns).to(dtype)
    A = torch.randn(20, 5000, generator=generator).to(dtype)
    exact = torch.linalg.svdvals(torch.linalg.qr(B.double()).R @ torch.linalg.qr(A.double().T).R.T)
    torch.testing.assert_close(product_singular_values(B, A), exact, rtol=error, atol=0)


def test_large_ill_conditioned_factors_do_not_go_through_the_gram_matrix() -> None:
    """Two nearly equal columns: the Gram's Cholesky factor would lose the small singular value."""
    B = torch.randn(20_000, 8, dtype=torch.float64)
    B[:, 7] = B[:, 6] + 1e-9 * torch.randn(20_000, dtype=torch.float64)
    A = torch.eye(8, dtype=torch.float64)
    assert B.numel() > factors_module.QR_ENTRIES
    exact = torch.linalg.svdvals(torch.linalg.qr(B).R)
    torch.testing.assert_close(product_singular_values(B, A), exact, rtol=1e-6, atol=0)
    assert product_singular_values(torch.zeros(20_000, 8), A).max() == 0


@pytest.mark.parametrize("size", [1e-21, 1e-12, 1.0, 1e15, 3e37])
@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-6])
def test_half_precision_factors_of_any_size_and_condition(size: float, ratio: float) -> None:
    """Squares of 1e-21 are subnormal in float32 and those of 1e37 infinite: neither may be summed there."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.logspace(0, torch.tensor(ratio).log10(), 16) * size
    B = (torch.randn(9000, 16, generator=generator) * columns).bfloat16()
    A = torch.randn(16, 5000, generator=generator).bfloat16()
    exact = torch.linalg.svdvals(torch.linalg.qr(B.double()).R @ torch.linalg.qr(A.double().T).R.T)
    torch.testing.assert_close(product_singular_values(B, A), exact, rtol=2e-6, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_bad_value_in_a_large_factor_is_refused(bad: float, dtype: torch.dtype) -> None:
    B, A = torch.ones(70_000, 8, dtype=dtype), torch.ones(8, 5, dtype=dtype)
    B[69_000, 3] = bad
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        product_singular_values(B, A)


def _matrix(m: int, n: int, spectrum: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(m, len(spectrum), generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(n, len(spectrum), generator=generator, dtype=torch.float64)).Q
    return U * spectrum.double() @ V.T


@pytest.mark.parametrize(
    ("m", "n", "spectrum"),
    [
        (60, 40, torch.linspace(1, 0.1, 40)),  # dense
        (900, 600, torch.arange(1, 601) ** -0.5),  # iterated in float64
        (600, 900, torch.arange(1, 601) ** -0.5),  # and transposed
        (1100, 1024, torch.arange(1, 1025) ** -0.5),  # iterated in float32
        (700, 600, torch.cat([torch.ones(3), torch.full((597,), 0.9)])),  # sigma_1 is triple
        (700, 600, torch.cat([torch.tensor([5.0, 1.0]), torch.zeros(598)])),  # of rank 2
    ],
)
@pytest.mark.parametrize("k", [1, 8])
def test_the_top_of_a_matrix_is_within_its_error_bound(m: int, n: int, spectrum: torch.Tensor, k: int) -> None:
    W = _matrix(m, n, spectrum)
    W = W.float() if W.numel() > decomposition._FLOAT64_ENTRIES else W
    top = top_singular(W, k)
    exact = spectrum.double()[:k] if W.dtype == torch.float64 else torch.linalg.svdvals(W.double())[:k]
    error = (top.S.double() - exact).abs()
    assert bool((error <= top.error_bound.double() + 1e-12 * exact[0]).all()), (error, top.error_bound)
    assert float(error[0] / exact[0]) < 1e-6
    assert top.sigma_max_relative_error < 1e-5
    assert top.U.shape == (m, k) and top.V.shape == (n, k)
    identity = torch.eye(k, dtype=top.U.dtype)
    positive = exact > 1e-6
    torch.testing.assert_close(
        (top.V.T @ top.V)[positive][:, positive], identity[positive][:, positive], rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        (top.U.T @ top.U)[positive][:, positive], identity[positive][:, positive], rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_a_flat_spectrum_is_the_hard_case_and_still_within_the_bound() -> None:
    """A Gaussian matrix has no gap; block Krylov needs restarts there."""
    W = torch.randn(1300, 1200, generator=torch.Generator().manual_seed(0))
    top, exact = top_singular(W, 16), torch.linalg.svdvals(W.double())[:16]
    assert bool(((top.S.double() - exact).abs() <= top.error_bound.double()).all())
    assert abs(top.sigma_max / float(exact[0]) - 1) < 1e-6


def test_the_same_seed_gives_the_same_bits() -> None:
    W = torch.randn(700, 640, generator=torch.Generator().manual_seed(0))
    one, two = top_singular(W, 4, seed=3), top_singular(W, 4, seed=3)
    assert torch.equal(one.U, two.U) and torch.equal(one.S, two.S)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_that_are_not_finite_are_refused(bad: float, dtype: torch.dtype) -> None:
    matrix = torch.ones(5, 4, dtype=dtype)
    matrix[3, 2] = bad
    for call in (
        lambda: top_singular(matrix, 1),
        lambda: product_singular_values(matrix, torch.ones(4, 3)),
        lambda: thin_svd(matrix),
    ):
        with pytest.raises(CheckpointError, match="NaN or infinite"):
            call()


def test_large_halves_are_finite_although_their_sum_overflows() -> None:
    require_finite_matrix(torch.full((300, 300), 6e4, dtype=torch.float16))
    require_finite_matrix(torch.full((3, 3), 3e38))


def test_shapes_that_make_no_product_are_refused() -> None:
    for B, A in (
        (torch.ones(3, 2), torch.ones(3, 2)),
        (torch.ones(3), torch.ones(3, 2)),
        (torch.ones(0, 2), torch.ones(2, 3)),
    ):
        with pytest.raises(CheckpointError):
            product_singular_values(B, A)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_a_planted_direction_is_found(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(80, 50, generator=generator, dtype=torch.float64)
    u = torch.nn.functional.normalize(torch.randn(80, generator=generator, dtype=torch.float64), dim=0)
    v = torch.nn.functional.normalize(torch.randn(50, generator=generator, dtype=torch.float64), dim=0)
    top = top_singular(W + 1000 * torch.outer(u, v), 2)
    assert float((top.U[:, 0] @ u).abs()) > 0.999 and float((top.V[:, 0] @ v).abs()) > 0.999
