"""What an update does to the margins of a model's rows: thresholds on its scale."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alignment:
    """a_W or a_Delta over rows: normalised, in [-1, 1]."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class ModuleMargins:
    """One module, with margin directions from one backward pass: local to the model as it is.

    ``keeps_below`` is kappa / delta, ``flips_above`` beta / gamma (sufficient), ``needs_above`` the necessary one,
    all in units of ``strength`` t = sigma_max(DeltaW) / sigma_max(W). None: the rows do not bound it.
    ``paper_threshold_assumed`` is proposition 4.2's rho_bd / rho_eff, no guarantee, with rho_bd assumed to be the
    smallest -a_W and rho_eff the smallest a_Delta over the triggered rows.
    """

    name: str
    strength: float
    clean_base: Alignment
    clean_update: Alignment
    triggered_base: Alignment | None = None
    triggered_update: Alignment | None = None
    keeps_below: float | None = None
    flips_above: float | None = None
    needs_above: float | None = None
    paper_threshold_assumed: float | None = None
    window_is_empty: bool | None = None


@dataclass(frozen=True)
class Step:
    """A share of rows from ``scale`` on, up to the next step."""

    scale: float
    share: float


@dataclass(frozen=True)
class Margins:
    """All modules scaled together, to first order around the adapter as it is (scale 1): local, and no guarantee.

    ``accuracy`` and ``attack_success`` are step functions of the scale. ``largest_scale`` keeps the first-order clean
    accuracy within ``max_accuracy_drop`` points of its value at 1 on the way up from 1; None where none harms.
    """

    clean_rows: int
    triggered_rows: int
    trigger: str | None
    target_label: str | None
    max_accuracy_drop: float
    accuracy_at_one: float
    largest_scale: float | None
    accuracy: tuple[Step, ...]
    attack_success: tuple[Step, ...]
    modules: tuple[ModuleMargins, ...]
    note: str = ""
