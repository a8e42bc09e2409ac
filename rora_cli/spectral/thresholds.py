"""How strong an update must be to make a layer forget, and how strong it may be to keep clean accuracy.

For one linear layer, input x and margin direction c (e_y - e_target on a triggered row, e_y - e_j on a clean one)

    a_M(x) = c^T M x / (||c|| ||x|| sigma_max(M)) in [-1, 1],    t = s sigma_max(BA) / sigma_max(W),

and the margin is exactly ||c|| ||x|| sigma_max(W) (a_W(x) + t a_Delta(x)). If it is positive, the model has forgotten
the backdoor on a triggered row, and keeps a clean row. The functions below draw conclusions for all rows at once, from
the vectors a_W [n] and a_Delta [n]. The strength t is relative to sigma_max(W): equation 12 sets t = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Strengths t that flip every triggered row and keep every clean one: ``low`` < t < ``high``.

    If ``low`` is None, no strength is known to flip all rows; if ``high`` is None, no strength is known to harm.
    """

    low: float | None
    high: float | None

    @property
    def is_empty(self) -> bool:
        """Whether no t > 0 does both. This depends on alignment alone: rescaling cannot open a window."""
        return self.low is None or (self.high is not None and self.low >= self.high)

    def holds(self, t: float) -> bool:
        """Whether strength ``t`` does both."""
        return not self.is_empty and self.low is not None and self.low < t and (self.high is None or t < self.high)


def sufficient_to_forget(a_base: Tensor, a_update: Tensor) -> float | None:
    """beta / gamma: every t above it flips all triggered rows, with a_W [n] and a_Delta [n].

    beta is the largest -a_W and gamma the smallest a_Delta. None if gamma is not positive: then nothing follows.
    """
    beta, gamma = float((-a_base).max()), float(a_update.min())
    return max(beta / gamma, 0.0) if gamma > 0 else None


def necessary_to_forget(a_base: Tensor, a_update: Tensor) -> float | None:
    """A t that flips all triggered rows, with a_W [n] and a_Delta [n], exceeds this: the largest -a_W / a_Delta.

    It is rho_bd / gammabar of the row where that is largest (-a_W >= rho_bd > 0, a_Delta <= gammabar). None if some row
    has a_W < 0 and a_Delta <= 0, because no strength flips such a row.
    """
    held = a_base < 0
    if not bool(held.any()):
        return 0.0
    if bool((a_update[held] <= 0).any()):
        return None
    return float((-a_base[held] / a_update[held]).max())


def largest_that_keeps(a_base: Tensor, a_update: Tensor) -> float | None:
    """kappa / delta: every t below it keeps all clean rows, with a_W [n] and a_Delta [n].

    kappa is the smallest a_W and -delta the smallest a_Delta. math.inf if the update harms no row (delta <= 0); None if
    W alone gets a row wrong (kappa <= 0).
    """
    kappa, delta = float(a_base.min()), float((-a_update).max())
    if kappa <= 0:
        return None
    return kappa / delta if delta > 0 else math.inf


def window(triggered: tuple[Tensor, Tensor] | None, clean: tuple[Tensor, Tensor] | None) -> Window:
    """beta / gamma < t < kappa / delta, from (a_W [n], a_Delta [n]) of triggered and of clean rows; None: no limit."""
    low = sufficient_to_forget(*triggered) if triggered is not None else 0.0
    high = largest_that_keeps(*clean) if clean is not None else math.inf
    return Window(low, 0.0 if high is None else None if math.isinf(high) else high)


@dataclass(frozen=True)
class StepFunction:
    """A fraction of rows as a function of the scale s >= 0: ``values[i]`` on (breaks[i-1], breaks[i]], from 0 up."""

    breaks: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, s: float) -> float:
        """The fraction of rows at scale ``s``."""
        return self.values[sum(b < s for b in self.breaks)]


def share_positive(p: Tensor, q: Tensor) -> StepFunction:
    """The fraction of rows with p + s q > 0, for p [n] and q [n], as an exact function of s; it steps at s = -p / q.

    With p = c^T W x and q = c^T BA x of a layer's rows, it is accuracy(s) on clean rows and 1 - ASR(s) on triggered
    rows. ``values`` hold on the open intervals between the breaks; at a break itself, some margin is zero.
    """
    p, q = p.double(), q.double()
    crossing = (-p / q)[(q != 0) & (-p / q > 0)]
    breaks = torch.unique(crossing)
    edges = torch.cat([breaks.new_zeros(1), breaks, breaks[-1:] * 2 + 1 if len(breaks) else breaks.new_ones(1)])
    middles = (edges[:-1] + edges[1:]) / 2
    values = ((p[None] + middles[:, None] * q[None]) > 0).double().mean(dim=1)
    return StepFunction(tuple(breaks.tolist()), tuple(values.tolist()))


def share_positive_in_a_net(margins: Tensor, contributions: Tensor) -> StepFunction:
    """As ``share_positive``, to first order in a deep net, from the margins z [n] at s = 1 and their slopes dz/ds [n].

    z(s) = z(1) + (s - 1) dz/ds is local: it holds near s = 1 and guarantees nothing away from it.
    """
    return share_positive(margins - contributions, contributions)


def paper_threshold(rho_bd: float, rho_eff: float) -> float | None:
    """The threshold of arXiv:2601.06305, proposition 4.2, in units of t: rho_bd / rho_eff.

    It guarantees nothing; :func:`sufficient_to_forget` does. The proposition assumes a_W <= -rho_bd on triggered rows,
    which bounds their margin from above, but its proof (equation 16) uses the opposite sign. None if rho_eff is not
    positive. The caller chooses how to measure rho_bd and rho_eff; ``PAPER_ASSUMPTION`` says how ``diagnose`` does.
    """
    return rho_bd / rho_eff if rho_eff > 0 else None


#: How ``diagnose`` measures the two quantities of the paper's threshold; the paper itself does not say.
PAPER_ASSUMPTION = (
    "its column assumes that rho_bd is the smallest -a_W and rho_eff the smallest a_DeltaW over the triggered rows, "
    "which is rora's reading and not the paper's definition"
)

WHY_NOT_A_GUARANTEE = (
    "the paper's own threshold (proposition 4.2) is no guarantee: its assumption bounds the trigger margin from above, "
    "its proof needs the bound from below"
)
