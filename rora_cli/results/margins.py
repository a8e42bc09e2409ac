"""What an update does to the margins of a model on rows: thresholds on the update's scale."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alignment:
    """The normalised alignment a_W or a_Delta over rows, in [-1, 1] (``spectral.thresholds``).

    Attributes:
        smallest, median, largest: over the rows.
    """

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class ModuleMargins:
    """One module, with margin directions from one backward pass: local to the model as it is.

    All thresholds are in units of ``strength`` t = sigma_max(DeltaW) / sigma_max(W); None means that the rows set no
    bound. Every t below ``keeps_below`` (kappa / delta) keeps the clean rows, every t above ``flips_above``
    (beta / gamma) flips the triggered rows, and a t that flips them all exceeds ``needs_above``.
    ``paper_threshold_assumed`` is rho_bd / rho_eff of proposition 4.2, which guarantees nothing. rora assumes that
    rho_bd is the smallest -a_W and rho_eff the smallest a_Delta over the triggered rows.

    Attributes:
        name: the module.
        clean_base, clean_update: a_W and a_Delta over the clean rows.
        triggered_base, triggered_update: the same over the triggered rows.
        window_is_empty: whether no t keeps all clean rows and flips all triggered ones.
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
    """A fraction of rows, ``share``, that holds from ``scale`` up to the next step."""

    scale: float
    share: float


@dataclass(frozen=True)
class Margins:
    """All modules scaled together, to first order around the adapter as it is (scale 1): local, and no guarantee.

    ``accuracy`` and ``attack_success`` are step functions of the scale. On the way up from scale 1, the first-order
    clean accuracy stays within ``max_accuracy_drop`` points of its value at 1 up to ``largest_scale``; None means that
    no scale costs more.

    Attributes:
        clean_rows, triggered_rows: how many rows were measured.
        trigger, target_label: what was put into the triggered rows, and the label that it leads to.
        accuracy_at_one: clean accuracy of the adapter as it is [fraction].
        modules: thresholds of each module.
        note: what the figures do not say.
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
