"""Proportions with their counts and intervals, clean accuracy, and attack success."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: A class may lose this many times what all rows together may: a class has fewer rows, so chance moves it further.
PER_CLASS_SLACK = 2.0
#: Of rounding only: a point of 100 rows is exactly one row.
ROUNDING = 1e-12


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

    def losses(
        self, before: CleanAccuracy, limit: float, *, slack: float = PER_CLASS_SLACK
    ) -> Iterator[tuple[str | None, float, float]]:
        """What was lost since ``before``, and what may be: fractions of 1, overall (None) and by class.

        Overall ``limit`` may be lost, and ``slack`` times it on a class.
        """
        yield None, _loss(before.overall, self.overall), limit
        for name, share in before.per_class.items():
            yield name, _loss(share, self.per_class[name]), limit * slack

    def loss_beyond(self, before: CleanAccuracy, limit: float, *, slack: float = PER_CLASS_SLACK) -> float:
        """By how much more than allowed was lost, overall or on the worst class: a fraction, 0.0 where it is kept."""
        lost = self.losses(before, limit, slack=slack)
        worst = max((fall - allowed for _, fall, allowed in lost if not math.isclose(allowed, 1.0)), default=0.0)
        return worst if worst > ROUNDING else 0.0


def _loss(before: Proportion, after: Proportion) -> float:
    return (before.value or 0.0) - (after.value or 0.0)


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
