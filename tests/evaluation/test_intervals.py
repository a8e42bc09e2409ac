from __future__ import annotations

import math

import pytest

from rora_cli.evaluation.intervals import proportion


def wilson(count: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson 1927, eq. written out."""
    p = count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return centre - half, centre + half


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 444), (444, 444), (41, 444), (7, 13)])
def test_the_interval_is_wilsons(count: int, total: int) -> None:
    got = proportion(count, total)
    assert (got.low, got.high) == pytest.approx(wilson(count, total), abs=1e-12)
    assert got.low <= got.value <= got.high


def test_an_empty_total_has_no_value_and_no_bounds() -> None:
    got = proportion(0, 0)
    assert (got.value, got.low, got.high) == (None, None, None)


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (1, 0)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        proportion(count, total)
