"""What the options of several commands share: units, least values and choices; one home for configs and reports."""

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


#: Number types that a model or an adapter can be loaded in or written in.
DTYPES = ("float32", "bfloat16", "float16")

#: The least that an option may be, wherever it stands; what a command asks for beyond that it checks itself.
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
    """Refuse what the command line refuses. Raises UsageError where an option of ``config`` is below its least."""
    for name, least in LEAST.items():
        value = getattr(config, name, None)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and number < least:
                option = "--" + name.removesuffix("s" if name == "seeds" else "").replace("_", "-")
                unit = " tokens" if name == "max_length" else ""
                raise UsageError(f"{option} is at least {least}{unit}, not {number}")


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
