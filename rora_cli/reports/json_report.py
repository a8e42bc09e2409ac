"""The JSON report: a result with its fields as keys, without NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, IntEnum
from pathlib import PurePath
from typing import Any

from rora_cli.results.accuracy import Proportion
from rora_cli.results.findings import Severity


def render(result: Any, *, indent: int | None = 2) -> str:
    """A result dataclass as JSON (RFC 8259). Fields keep their order; NaN and infinities become null.

    ``::`` and ``##`` are escaped, because a CI log may obey them. They occur only inside strings, so values stay exact.
    """
    text = json.dumps(plain(result), indent=indent, ensure_ascii=True, allow_nan=False)
    return text.replace("::", ":\\u003a").replace("##", "#\\u0023")


def plain(value: Any) -> Any:
    """Dataclasses, mappings, tuples, sets, enums and paths as JSON values. Raises TypeError for anything else."""
    if isinstance(value, Severity):
        return value.label
    if isinstance(value, Enum):
        return int(value) if isinstance(value, IntEnum) else value.value
    if is_dataclass(value) and not isinstance(value, type):
        out = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, Proportion):
            out = {"value": plain(value.value), **out}
        return out
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, PurePath):
        return value.as_posix()
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"a report holds plain values, not {type(value).__name__}")
