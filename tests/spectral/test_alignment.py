"""Alignment with W's top directions against chance, angles, and intruder dimensions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rora_cli.spectral.alignment import energy_alignment, null_band, principal_angles
from rora_cli.spectral.intruders import intruder_dimensions


def haar(d: int, r: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, r, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q


@pytest.mark.parametrize(("d", "k", "r"), [(64, 8, 1), (64, 8, 4), (200, 32, 8), (48, 24, 16)])
def test_random_updates_are_at_chance_within_their_band(d: int, k: int, r: int) -> None:
    S = torch.linspace(1, 0.1, r, dtype=torch.float64)
    basis = torch.eye(d, dtype=torch.float64)[:, :k]
    values = torch.tensor([energy_alignment(haar(d, r, seed), S, basis) for seed in range(1500)])
    band = null_band(d, k, S)
    assert float(values.mean()) == pytest.approx(1, abs=4 * float(values.std()) / 1500**0.5)
    inside = float(((values >= band.low) & (values <= band.high)).double().mean())
    assert inside == pytest.approx(0.95, abs=0.02)


def test_the_band_for_one_direction_is_the_exact_beta() -> None:
    from scipy.stats import beta

    band = null_band(40, 5, torch.tensor([2.0]))
    exact = beta(2.5, 17.5).ppf([0.025, 0.975]) * 8
    assert [band.low, band.high] == pytest.approx(exact.tolist(), rel=1e-9)


@settings(max_examples=30)
@given(st.integers(2, 20), st.integers(1, 6), st.integers(0, 10**6))
def test_alignment_is_between_nothing_and_everything(d: int, r: int, seed: int) -> None:
    r = min(r, d)
    U, S, k = haar(d, r, seed), torch.rand(r, dtype=torch.float64) + 0.01, max(1, d // 3)
    value = energy_alignment(U, S, haar(d, k, seed + 1))
    assert value is not None and 0 <= value <= d / k + 1e-9
    assert energy_alignment(U, 7 * S, haar(d, k, seed + 1)) == pytest.approx(value)
    assert energy_alignment(U, S, haar(d, d, seed + 2)) == pytest.approx(1)


def test_planted_and_hidden_directions() -> None:
    basis = haar(50, 10, 0)
    inside, outside = basis[:, :3], torch.linalg.qr(torch.cat([basis, haar(50, 20, 1)], 1)).Q[:, 10:13]
    S = torch.tensor([3.0, 2.0, 1.0])
    assert energy_alignment(inside, S, basis) == pytest.approx(5)
    assert energy_alignment(outside, S, basis) == pytest.approx(0, abs=1e-9)
    assert principal_angles(inside, basis).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert principal_angles(outside, basis).tolist() == pytest.approx([90, 90, 90], abs=1e-5)
    assert energy_alignment(inside, torch.zeros(3), basis) is None


def test_an_angle_in_between() -> None:
    basis = torch.eye(4)[:, :1]
    direction = torch.tensor([[3**0.5 / 2], [0.5], [0.0], [0.0]])
    assert principal_angles(direction, basis).tolist() == pytest.approx([30], abs=1e-4)


def test_intruders_are_counted() -> None:
    U, V = haar(40, 40, 0), haar(30, 30, 1)
    W = U[:, :30] * torch.linspace(2, 1, 30, dtype=torch.float64) @ V.T
    assert intruder_dimensions(W, torch.zeros_like(W)) == 0
    assert intruder_dimensions(W, 0.5 * W) == 0
    # A strong direction spread evenly over W's thirty left vectors resembles none of them.
    spread = U[:, :30].mean(dim=1) * 30**0.5
    assert intruder_dimensions(W, 20 * torch.outer(spread, V.mean(dim=1) * 30**0.5)) == 1
