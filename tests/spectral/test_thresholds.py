"""The corrected thresholds, the paper's counterexample, and step functions against brute force."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rora_cli.spectral.thresholds import (
    Window,
    largest_that_keeps,
    necessary_to_forget,
    paper_threshold,
    share_positive,
    share_positive_in_a_net,
    sufficient_to_forget,
    window,
)

SHARES = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=12)


def columns(rows: list[tuple[float, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, 0], table[:, 1]


def test_the_papers_counterexample() -> None:
    """W = (-1, 1) / sqrt 2, DeltaW = -W, x = 1: proposition 4.2 says .1 suffices, at .2 the margin is -.8 sqrt 2."""
    W = torch.tensor([[-1.0], [1.0]], dtype=torch.float64) / 2**0.5
    c = torch.tensor([[1.0, -1.0]], dtype=torch.float64)  # y = 0, the backdoor's target is 1
    x = torch.ones(1, 1, dtype=torch.float64)
    stated = paper_threshold(rho_bd=0.1, rho_eff=1.0)  # rho_cl = 1, rho_tr = 0
    assert stated == pytest.approx(0.1)
    margin = float((c @ (W + 0.2 * -W) * x).sum())
    assert margin == pytest.approx(-0.8 * 2**0.5)
    assert stated < 0.2 and margin < 0

    a_W, a_Delta = ((c @ M * x).sum(dim=1) / (c.norm() * x.norm()) for M in (W, -W))  # sigma_max of both is 1
    assert [float(a_W), float(a_Delta)] == pytest.approx([-1, 1])
    assert sufficient_to_forget(a_W, a_Delta) == pytest.approx(1.0)
    assert necessary_to_forget(a_W, a_Delta) == pytest.approx(1.0)
    assert share_positive(a_W, a_Delta).breaks == pytest.approx((1.0,))


@given(SHARES)
def test_above_the_sufficient_threshold_every_row_flips(rows: list[tuple[float, float]]) -> None:
    a_W, a_Delta = columns(rows)
    threshold = sufficient_to_forget(a_W, a_Delta)
    if threshold is not None and threshold < 1e6:
        assert bool((a_W + (threshold * 1.001 + 1e-6) * a_Delta > -1e-9).all())


@given(SHARES, st.floats(1e-3, 1 - 1e-3))
def test_below_the_necessary_threshold_some_row_does_not(rows: list[tuple[float, float]], share: float) -> None:
    a_W, a_Delta = columns(rows)
    threshold = necessary_to_forget(a_W, a_Delta)
    if threshold is None:
        assert any(not bool((a_W + t * a_Delta > 0).all()) for t in (0.1, 1.0, 10.0, 1e3))
    elif threshold > 0:
        assert not bool((a_W + threshold * share * a_Delta > 0).all())
    sufficient = sufficient_to_forget(a_W, a_Delta)
    if sufficient is not None and threshold is not None:
        assert threshold <= sufficient * (1 + 1e-9)


@given(SHARES, st.floats(0, 1 - 1e-3))
def test_below_kappa_over_delta_every_clean_row_is_kept(rows: list[tuple[float, float]], share: float) -> None:
    a_W, a_Delta = columns(rows)
    bound = largest_that_keeps(a_W, a_Delta)
    if bound is not None and bound > 0:
        t = min(bound, 1e6) * share
        assert bool((a_W + t * a_Delta > 0).all())


@given(SHARES, SHARES, st.floats(1e-3, 1e3))
def test_no_norm_makes_a_window(triggered: list, clean: list, scale: float) -> None:
    """Rescaling the update moves both ends alike: whether the window is empty is a matter of alignment alone."""
    one = window(columns(triggered), columns(clean))
    (tw, td), (cw, cd) = columns(triggered), columns(clean)
    low, high = sufficient_to_forget(tw, scale * td), largest_that_keeps(cw, scale * cd)
    two = Window(low, 0.0 if high is None else None if math.isinf(high) else high)
    if one.low is not None and one.high not in (None, 0.0) and abs(one.low - one.high) > 1e-9:
        assert one.is_empty == two.is_empty
    if not one.is_empty:
        middle = one.low + 1 if one.high is None else (one.low + one.high) / 2
        if one.holds(middle):
            assert bool((tw + middle * td >= 0).all()) and bool((cw + middle * cd > 0).all())


def test_windows() -> None:
    assert window(None, None) == Window(0.0, None)
    assert Window(0.5, 2.0).holds(1) and not Window(0.5, 2.0).holds(3) and not Window(2.0, 0.5).holds(1)
    assert Window(None, 3.0).is_empty and Window(2.0, 2.0).is_empty and not Window(2.0, None).is_empty


@given(SHARES, st.floats(0, 50))
def test_step_functions_are_the_share_of_positive_margins(rows: list[tuple[float, float]], s: float) -> None:
    p, q = columns(rows)
    function = share_positive(p, q)
    if all(abs(s - b) > 1e-9 * max(1, b) for b in function.breaks) and (s > 0):
        assert function.at(s) == pytest.approx(float((p + s * q > 0).double().mean()))
    assert len(function.values) == len(function.breaks) + 1


def test_a_step_at_every_scale_where_a_row_is_lost() -> None:
    p, q = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([-1.0, -0.5, -0.25, 1.0])
    accuracy = share_positive(p, q)
    assert accuracy.breaks == (1.0, 2.0, 4.0) and accuracy.values == (1.0, 0.75, 0.5, 0.25)


def test_first_order_in_a_net_agrees_at_scale_one() -> None:
    margins, slopes = torch.tensor([0.5, -0.5, 2.0]), torch.tensor([1.0, 1.0, -1.0])
    function = share_positive_in_a_net(margins, slopes)
    assert function.at(1.0) == pytest.approx(2 / 3)
    assert function.breaks == pytest.approx((0.5, 1.5, 3.0))
