"""Proportions with their counts and intervals, clean accuracy, and attack success."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: Largest loss of a class [largest loss over all rows]: a class has fewer rows, so chance moves its accuracy further.
PER_CLASS_SLACK = 2.0
#: Loss of accuracy [fraction] that is rounding error: one row of 100 must count as exactly one point.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``total`` with a 95 % Wilson interval, as fractions; ``value`` is None if ``total`` is 0.

    Attributes:
        low, high: ends of the interval [fractions]; None if ``total`` is 0.
    """

    count: int
    total: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """``count`` / ``total``, a fraction; None if ``total`` is 0."""
        return self.count / self.total if self.total else None


@dataclass(frozen=True)
class CleanAccuracy:
    """Accuracy on clean rows, overall and per class (keyed by label name).

    Attributes:
        overall: over all rows.
        per_class: of the rows of each label.
    """

    overall: Proportion
    per_class: Mapping[str, Proportion]

    def losses(
        self, before: CleanAccuracy, limit: float, *, slack: float = PER_CLASS_SLACK
    ) -> Iterator[tuple[str | None, float, float]]:
        """(class or None for overall, loss since ``before``, loss that is allowed); losses are fractions of rows.

        Overall accuracy may fall by ``limit``, the accuracy of a class by ``slack`` times ``limit``.
        """
        yield None, _loss(before.overall, self.overall), limit
        for name, share in before.per_class.items():
            yield name, _loss(share, self.per_class[name]), limit * slack

    def loss_beyond(self, before: CleanAccuracy, limit: float, *, slack: float = PER_CLASS_SLACK) -> float:
        """How far the worst loss, overall or of a class, exceeds its limit [fraction]; 0.0 if accuracy is kept."""
        lost = self.losses(before, limit, slack=slack)
        worst = max((fall - allowed for _, fall, allowed in lost if not math.isclose(allowed, 1.0)), default=0.0)
        return worst if worst > ROUNDING else 0.0


def _loss(before: Proportion, after: Proportion) -> float:
    return (before.value or 0.0) - (after.value or 0.0)


@dataclass(frozen=True)
class AttackOutcome:
    """What one trigger does at one position under one seed.

    ``attack_success_rate`` counts the rows of other labels that the model gives the target label when they hold the
    trigger. ``floor`` counts those that get it without the trigger: natural errors. ``shortened_rows`` is the number of
    rows that lost their last words, in both counts, so that the trigger fits into the model's input.

    Attributes:
        name: of the attack.
        trigger: its text, or in words what is done to a text.
        position: where in a row it stands.
        seed: that placed it.
        target_label: the label, or the behaviour, that it is meant to lead to.
        is_control: whether the trigger is a random one, beside the attack before it.
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
