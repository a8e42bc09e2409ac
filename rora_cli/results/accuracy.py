"""Proportions with their counts and intervals, clean accuracy, and attack success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``total`` with a 95 % Wilson interval, as fractions of 1; ``value`` is None when empty."""

    count: int
    total: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None


@dataclass(frozen=True)
class CleanAccuracy:
    """Accuracy on clean rows, overall and per class (keyed by label name)."""

    overall: Proportion
    per_class: Mapping[str, Proportion]


@dataclass(frozen=True)
class AttackOutcome:
    """What one trigger does at one position under one seed.

    ``attack_success_rate`` counts the non-target rows that the model gives the target label with the trigger in;
    ``floor`` counts the same rows without it: natural errors, to be read beside every attack success rate.
    ``shortened_rows`` of them had their last words cut in both, so that the trigger fits what the model reads.
    """

    name: str
    trigger: str
    position: str
    seed: int
    target_label: str
    attack_success_rate: Proportion
    floor: Proportion
    is_control: bool = False
    shortened_rows: int = 0
