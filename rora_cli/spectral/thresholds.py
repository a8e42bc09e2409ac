"""How strong an update must be to make a layer forget, and how strong it may be to keep clean accuracy.

For one linear layer, input x and margin direction c (e_y - e_target on a triggered row, e_y - e_j on a clean one)

    a_M(x) = c^T M x / (||c|| ||x|| sigma_max(M)) in [-1, 1],    t = s sigma_max(BA) / sigma_max(W),

and the margin is exactly ||c|| ||x|| sigma_max(W) (a_W(x) + t a_Delta(x)). A triggered row is forgotten where that is
positive, a clean row kept where it is. What follows for all rows at once is below; rows are vectors of a_W and a_Delta,
and t is relative to sigma_max(W): equation 12 sets t = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Strengths t that flip every triggered row and keep every clean one: ``low`` < t < ``high``.

    ``low`` None: no strength is known to flip all; ``high`` None: no strength is known to harm.
    """

    low: float | None
    high: float | None

    @property
    def is_empty(self) -> bool:
        """Whether no t > 0 does both. It depends on alignment alone: rescaling cannot make a window."""
        return self.low is None or (self.high is not None and self.low >= self.high)

    def holds(self, t: float) -> bool:
        return not self.is_empty and self.low is not None and self.low < t and (self.high is None or t < self.high)


def sufficient_to_forget(a_base: Tensor, a_update: Tensor) -> float | None:
    """beta / gamma: every t above it flips all triggered rows.

    -a_W <= beta and a_Delta >= gamma > 0 on all of them. None where gamma is not positive: then nothing follows.
    """
    beta, gamma = float((-a_base).max()), float(a_update.min())
    return max(beta / gamma, 0.0) if gamma > 0 else None


def necessary_to_forget(a_base: Tensor, a_update: Tensor) -> float | None:
    """The smallest t that flips all triggered rows needs t > this: max over rows of -a_W / a_Delta.

    It is rho_bd / gammabar for the row where that is largest (-a_W >= rho_bd > 0, a_Delta <= gammabar). None where some
    row with a_W < 0 has a_Delta <= 0: no strength whatever flips that one.
    """
    held = a_base < 0
    if not bool(held.any()):
        return 0.0
    if bool((a_update[held] <= 0).any()):
        return None
    return float((-a_base[held] / a_update[held]).max())


def largest_that_keeps(a_base: Tensor, a_update: Tensor) -> float | None:
    """kappa / delta: every t below it keeps all clean rows that are right; math.inf where nothing pulls against them.

    a_W >= kappa > 0 and a_Delta >= -delta on all of them. None where a row is wrong already (kappa <= 0).
    """
    kappa, delta = float(a_base.min()), float((-a_update).max())
    if kappa <= 0:
        return None
    return kappa / delta if delta > 0 else math.inf


def window(triggered: tuple[Tensor, Tensor] | None, clean: tuple[Tensor, Tensor] | None) -> Window:
    """beta / gamma < t < kappa / delta from (a_W, a_Delta) of triggered and of clean rows; a side not given is open."""
    low = sufficient_to_forget(*triggered) if triggered is not None else 0.0
    high = largest_that_keeps(*clean) if clean is not None else math.inf
    return Window(low, 0.0 if high is None else None if math.isinf(high) else high)


@dataclass(frozen=True)
class StepFunction:
    """A share of rows as a function of the scale s >= 0: ``values[i]`` holds on (breaks[i-1], breaks[i]], from 0 up."""

    breaks: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, s: float) -> float:
        return self.values[sum(b < s for b in self.breaks)]


def share_positive(p: Tensor, q: Tensor) -> StepFunction:
    """The share of rows with p + s q > 0 as a function of s, exact: it steps only at s = -p / q.

    With p = c^T W x and q = c^T BA x of a layer's rows it is accuracy(s) on clean rows; of triggered rows, 1 - ASR(s).
    At a break itself some margin is zero; ``values`` are those of the open intervals between the breaks.
    """
    p, q = p.double(), q.double()
    crossing = (-p / q)[(q != 0) & (-p / q > 0)]
    breaks = torch.unique(crossing)
    edges = torch.cat([breaks.new_zeros(1), breaks, breaks[-1:] * 2 + 1 if len(breaks) else breaks.new_ones(1)])
    middles = (edges[:-1] + edges[1:]) / 2
    values = ((p[None] + middles[:, None] * q[None]) > 0).double().mean(dim=1)
    return StepFunction(tuple(breaks.tolist()), tuple(values.tolist()))


def share_positive_in_a_net(margins: Tensor, contributions: Tensor) -> StepFunction:
    """The same to first order inside a deep net: margins z at scale 1 and d z / d s of the update, both [n].

    z(s) = z(1) + (s - 1) dz/ds is local: it holds near s = 1 and is no guarantee away from it.
    """
    return share_positive(margins - contributions, contributions)


def paper_threshold(rho_bd: float, rho_eff: float) -> float | None:
    """The threshold of arXiv:2601.06305, proposition 4.2, in units of t: rho_bd / rho_eff.

    Its assumption is a_W <= -rho_bd on triggered rows, which bounds their margin from above, while its proof (equation
    16) uses the opposite sign: it is no guarantee; :func:`sufficient_to_forget` is. None where rho_eff is not positive.
    Where rho_bd and rho_eff come from is the caller's to say: see ``PAPER_ASSUMPTION`` for what ``diagnose`` takes.
    """
    return rho_bd / rho_eff if rho_eff > 0 else None


#: What the column of the paper's threshold is made of: how the paper would measure its two quantities was not at hand.
PAPER_ASSUMPTION = (
    "its column assumes that rho_bd is the smallest -a_W and rho_eff the smallest a_DeltaW over the triggered rows, "
    "which is rora's reading and not the paper's definition"
)

WHY_NOT_A_GUARANTEE = (
    "the paper's own threshold (proposition 4.2) is no guarantee: its assumption bounds the trigger margin from above, "
    "its proof needs the bound from below"
)
