"""What the options of several commands share: units, least values and choices; one home for configs and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rora_cli.errors import UsageError

#: Option -> its unit, for options that are no plain counts or names.
UNITS = {
    "max_accuracy_drop": "points of accuracy (1.0 is one percentage point)",
    "dev_fraction": "fraction of 1",
    "warmup_ratio": "fraction of 1",
    "max_length": "tokens",
}


#: Number types that a model or an adapter can be loaded in or written in.
DTYPES = ("float32", "bfloat16", "float16")

#: Option -> its smallest value, for every command; a command checks any other limits itself.
LEAST = {
    "seed": 0,
    "seeds": 0,
    "max_rows": 1,
    "max_train_rows": 1,
    "max_held_out_rows": 1,
    "batch_size": 1,
    "micro_batch_size": 1,
    "checkpoint_every": 1,
    "max_rounds": 1,
    "num_processes": 1,
    "max_length": 4,
}


def require_least(config: Any) -> None:
    """Check the options of ``config``. Raises UsageError if one is below its smallest value."""
    for name, least in LEAST.items():
        value = getattr(config, name, None)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and number < least:
                option = "--" + name.removesuffix("s" if name == "seeds" else "").replace("_", "-")
                unit = " tokens" if name == "max_length" else ""
                raise UsageError(f"{option} is at least {least}{unit}, not {number}")


def with_units(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config with the units of its options, for reports."""
    return {**config, "units": {name: unit for name, unit in UNITS.items() if name in config}}


def fraction_of_points(points: float) -> float:
    """``points`` of accuracy (``max_accuracy_drop``) as a fraction of rows.

    Raises:
        UsageError: they are not between 0 and 100.
    """
    if not 0 <= points <= 100:
        raise UsageError(f"--max-accuracy-drop is between 0 and 100 points of accuracy (1 for 1 %), not {points:g}")
    return points / 100
