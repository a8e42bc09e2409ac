"""Checks of an adapter's low-rank factors by headers alone: complete pairs, one rank, floating types, their number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rora_cli.checkpoints.header import TensorInfo, quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.results.findings import Finding

#: Tensors of an adapter outside of experts, at most: a LoRA on every linear layer of a model with 120 layers has 1,680.
MAX_TENSORS = 20_000
#: Findings of each rule that name a module; a last one counts the others.
_SHOWN = 5
#: Layouts of a pair: (names of the first and the second factor, axes of the rank in each).
_PAIRS = (
    (re.compile(r"(?:^|\.)lora_(?:embedding_)?(?P<factor>[AB])(?=\.|$)"), ("A", "B"), (0, 1)),
    (re.compile(r"(?:^|\.)lora_(?P<factor>[ab])$"), ("a", "b"), (1, 0)),
    (re.compile(r"(?:^|\.)lora[._](?P<factor>down|up)(?=\.weight$)"), ("down", "up"), (0, 1)),
)
#: Config fields of variants whose factors are stored in blocks, so that their ranks differ by design.
_BLOCKED = ("use_bdlora", "use_qalora")


def check(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any] | None, file: str) -> Iterator[Finding]:
    """Findings for factors that cannot be right, whatever their values are.

    Tensors without elements are passed over: another rule reports them.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for rule, message, name in _faults(tensors, config or {}):
        found.setdefault(rule, []).append((message, name))
    for rule, faults in found.items():
        for message, name in faults[:_SHOWN]:
            yield finding(rule, f"{message} in {file}", name)
        if len(faults) > _SHOWN:
            yield finding(rule, f"{len(faults) - _SHOWN:,} more like these in {file}", file)
    outside = sum(".experts." not in name for name in tensors)
    if outside > MAX_TENSORS:
        yield finding("adapter/too-many-tensors", f"{file} holds {outside:,} tensors outside of experts", file)


def _faults(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(rule, message, name of a tensor) for each fault of a pair."""
    for pattern, (first, second), axes in _PAIRS:
        for factors in _pairs(tensors, pattern).values():
            for info in factors.values():
                if not info.dtype.startswith(("F", "BF", "C")):
                    yield "adapter/integer-factor", f"{quoted(info.name)} has the type {info.dtype}", info.name
            A, B = factors.get(first), factors.get(second)
            if A is None or B is None:
                (present,) = factors.values()
                yield "adapter/half-a-pair", f"{quoted(present.name)} has no counterpart", present.name
            elif fault := _no_product(A, B, axes, config) or _not_of_config(A, axes[0], config):
                yield "adapter/rank-mismatch", fault, A.name


def _no_product(A: TensorInfo, B: TensorInfo, axes: tuple[int, int], config: Mapping[str, Any]) -> str | None:
    """Why the two factors cannot be multiplied, or None."""
    if not (A.elements and B.elements) or any(config.get(field) for field in _BLOCKED):
        return None
    pair = f"{quoted(A.name)} {list(A.shape)} and {quoted(B.name)} {list(B.shape)}"
    if len(A.shape) < 2 or len(B.shape) < 2:
        return f"{pair} are not two matrices"
    return None if A.shape[axes[0]] == B.shape[axes[1]] else f"{pair} disagree on the rank"


def _not_of_config(A: TensorInfo, axis: int, config: Mapping[str, Any]) -> str | None:
    """Why PEFT does not load a LoRA's first factor: its rank is neither the config's nor one of rank_pattern's.

    Which module a pattern means is not asked, and experts in one stack have a multiple of the rank.
    """
    if config.get("peft_type") != "LORA" or any(config.get(field) for field in (*_BLOCKED, "target_parameters")):
        return None
    if not A.elements or ".experts." in A.name:
        return None
    pattern = config.get("rank_pattern")
    stated = [config.get("r", 8), *(pattern.values() if isinstance(pattern, dict) else ())]
    if A.shape[axis] in stated or not all(type(rank) is int for rank in stated):
        return None  # another rule reports what is no number
    shown = ", ".join(map(str, sorted(set(stated))[:5]))
    return f"the config says rank {shown}, but {quoted(A.name)} has rank {A.shape[axis]}"


def _pairs(tensors: Mapping[str, TensorInfo], pattern: re.Pattern[str]) -> dict[str, dict[str, TensorInfo]]:
    """Name without the factor -> factor -> tensor, for the tensors that are a factor by ``pattern``."""
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for name, info in tensors.items():
        match = None if name.endswith(".bias") else pattern.search(name)
        if match:
            rest = f"{name[: match.start('factor')]}*{name[match.end('factor') :]}"
            pairs.setdefault(rest, {})[match["factor"]] = info
    return pairs
