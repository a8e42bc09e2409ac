"""Units of options, for what is measured in something else than it looks like: one home for configs and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rora_cli.errors import UsageError

#: Options that are no plain counts or names, and what one of them is.
UNITS = {
    "max_accuracy_drop": "points of accuracy (1.0 is one percentage point)",
    "dev_fraction": "fraction of 1",
    "warmup_ratio": "fraction of 1",
    "max_length": "tokens",
}


def with_units(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config as reports hold it: with the units of the options that it has."""
    return {**config, "units": {name: unit for name, unit in UNITS.items() if name in config}}


def fraction_of_points(points: float) -> float:
    """``max_accuracy_drop`` as the fraction of rows that training and measuring count in.

    Raises:
        UsageError: it does not lie between 0 and 100.
    """
    if not 0 <= points <= 100:
        raise UsageError(f"--max-accuracy-drop is between 0 and 100 points of accuracy (1 for 1 %), not {points:g}")
    return points / 100
