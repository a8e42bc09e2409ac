"""Counts to proportions with an interval."""

from __future__ import annotations

from rora_cli.results.accuracy import Proportion


def proportion(count: int, total: int, *, confidence: float = 0.95) -> Proportion:
    """``count`` of ``total`` with its Wilson score interval (Wilson 1927); without an interval if ``total`` is 0.

    Raises ValueError unless 0 <= ``count`` <= ``total``.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is not a proportion")
    if total == 0:
        return Proportion(0, 0, None, None)
    from scipy.stats import binomtest

    interval = binomtest(int(count), int(total)).proportion_ci(confidence_level=confidence, method="wilson")
    return Proportion(int(count), int(total), float(interval.low), float(interval.high))
