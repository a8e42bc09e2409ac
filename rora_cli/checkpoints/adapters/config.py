"""Numbers and flags from an untrusted adapter_config.json; a value out of bounds is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rora_cli.checkpoints.adapters.names import pattern_value
from rora_cli.errors import CheckpointError

_MAX_RANK = 1 << 16


def number(value: Any, field: str) -> float:
    """``value`` as a float. Raises CheckpointError unless it is a finite int or float; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CheckpointError(f"adapter_config.json: {field} is {str(value)[:40]!r}, which is not a finite number.")
    return float(value)


def rank(value: Any, field: str) -> int:
    """``value`` as a rank. Raises CheckpointError unless it is a whole number from 1 to 65536."""
    if number(value, field) != int(value) or not 1 <= value <= _MAX_RANK:
        raise CheckpointError(f"adapter_config.json: {field} is {value}, which is not a rank (1 to {_MAX_RANK}).")
    return int(value)


def patterns(config: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """``rank_pattern`` or ``alpha_pattern``, in the file's order. Raises CheckpointError if it is no mapping."""
    value = config.get(field) or {}
    if not isinstance(value, Mapping):
        raise CheckpointError(f"adapter_config.json: {field} is not a mapping of module patterns to numbers.")
    return value


def module_rank(config: Mapping[str, Any], module: str, default: Any = None) -> int:
    """r of one module: the value of the first matching pattern in rank_pattern, else the config's r."""
    fallback = config.get("r", 8) if default is None else default
    return rank(pattern_value(patterns(config, "rank_pattern"), module, fallback), "r or rank_pattern")


def module_alpha(config: Mapping[str, Any], module: str, field: str = "lora_alpha") -> float:
    """alpha of one module: the value of the first matching pattern in alpha_pattern, else the config's ``field``."""
    return number(pattern_value(patterns(config, "alpha_pattern"), module, config.get(field, 8)), "alpha")


def states_alpha(config: Mapping[str, Any]) -> bool:
    """Whether alpha is known: the config states it, or is PEFT's, which has a default."""
    return "lora_alpha" in config or "peft_type" in config


def lora_scaling(config: Mapping[str, Any], module: str, r: int) -> float:
    """s = alpha / r, or alpha / sqrt(r) under rsLoRA (arXiv:2312.03732)."""
    return module_alpha(config, module) / (math.sqrt(r) if config.get("use_rslora") else r)
