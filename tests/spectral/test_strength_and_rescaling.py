"""Statistics of a spectrum, and equation 12."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rora_cli.errors import CheckpointError
from rora_cli.spectral.rescaling import equation_12_factor, fold
from rora_cli.spectral.robust import median_and_mad, robust_z_scores
from rora_cli.spectral.strength import (
    entry_kurtosis,
    normalised_strength,
    size_normalised_norm,
    spectrum_statistics,
)

SPECTRA = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20)


def test_known_spectra() -> None:
    flat = spectrum_statistics(torch.full((4,), 2.0))
    assert (flat.sigma_max, flat.frobenius_norm) == (2, 4)
    assert [flat.stable_rank, flat.effective_rank, flat.entropy] == pytest.approx([4, 4, math.log(4)])
    assert [flat.energy_share, flat.top_energy] == pytest.approx([0.25, 0.25])
    single = spectrum_statistics(torch.tensor([3.0, 0.0]))
    assert [single.stable_rank, single.effective_rank, single.entropy] == pytest.approx([1, 1, 0])
    assert spectrum_statistics(torch.zeros(3)).effective_rank == 0


@given(SPECTRA, st.floats(1e-3, 1e3))
def test_statistics_scale_as_they_should(values: list[float], factor: float) -> None:
    spectrum = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    one, two = spectrum_statistics(spectrum), spectrum_statistics(factor * spectrum)
    assert [two.sigma_max, two.frobenius_norm] == pytest.approx([factor * one.sigma_max, factor * one.frobenius_norm])
    for name in ("stable_rank", "effective_rank", "energy_share", "top_energy"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-9)
    assert 1 <= one.stable_rank <= one.effective_rank**2 * (1 + 1e-9)
    assert 1 <= one.effective_rank <= len(values) * (1 + 1e-9)


def test_kurtosis_of_entries() -> None:
    rng = np.random.default_rng(0)
    assert entry_kurtosis(rng.standard_normal((300, 400))) == pytest.approx(3, abs=0.1)
    B, A = rng.standard_normal((60, 3)), rng.standard_normal((3, 50))
    assert entry_kurtosis(B, A) == pytest.approx(entry_kurtosis(B @ A), rel=1e-6)
    assert entry_kurtosis(np.ones((4, 4))) is None
    spike = np.zeros((100, 100))
    spike[0, 0] = 1
    assert entry_kurtosis(spike) == pytest.approx(1e4, rel=0.01)


def test_size_normalised_norm_is_the_root_mean_square() -> None:
    matrix = torch.randn(7, 5)
    assert size_normalised_norm(float(matrix.norm()), (7, 5)) == pytest.approx(float(matrix.square().mean().sqrt()))


def test_robust_z_scores() -> None:
    scores = robust_z_scores([1.0, 1.1, 0.9, 1.0, 1.05, 9.0])
    assert scores[-1] is not None and scores[-1] > 50
    assert all(abs(s or 0) < 3.5 for s in scores[:-1])
    assert robust_z_scores([1.0, 1.0, 1.0]) == [None] * 3
    assert robust_z_scores([1.0, 2.0]) == [None] * 2
    assert robust_z_scores([]) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_median_and_mad_are_those_of_the_definition_to_the_bit(values: list[float]) -> None:
    middle = statistics.median(values)
    assert median_and_mad(values) == (middle, statistics.median(abs(value - middle) for value in values))


def test_normalised_strength_of_a_zero_base_is_not_a_number() -> None:
    assert normalised_strength(1.0, 0.0) is None and normalised_strength(1.0, 4.0) == 0.25


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(0.01, 10))
def test_equation_12_makes_the_update_as_strong_as_asked(base: float, update: float, strength: float) -> None:
    factor = equation_12_factor(base, update, strength=strength)
    assert factor * update == pytest.approx(strength * base)
    assert equation_12_factor(base, update, cap=factor / 2) == pytest.approx(min(base / update, factor / 2))


@pytest.mark.parametrize(("base", "update"), [(0, 1), (1, 0), (float("nan"), 1), (1, float("inf")), (-1, 1)])
def test_equation_12_refuses_what_has_no_factor(base: float, update: float) -> None:
    with pytest.raises(CheckpointError):
        equation_12_factor(base, update)


def test_fold_rounds_once_and_refuses_overflow() -> None:
    B = torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16)
    assert torch.equal(fold(B, 0.37), (B.double() * 0.37).bfloat16())
    with pytest.raises(CheckpointError, match="float16"):
        fold(B, 1e5, dtype=torch.float16)
