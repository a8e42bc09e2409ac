"""What of a report is the same in every run, and how two of them are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: Fields that tell of the machine, the day or the code's version, not of what was computed.
#: ``thresholds`` repeats numbers of the code, which unit tests hold; what they decide is compared.
PASSING = {
    *("seconds", "versions", "rora_version", "inputs", "outputs", "created", "date", "time", "schema_version"),
    "thresholds",
}
TOLERANCE = 1e-6


def without_passing(value: Any, scratch: Path) -> Any:
    """``value`` as JSON data without fields that differ from run to run; paths inside ``scratch`` are relative."""
    if isinstance(value, Mapping):
        return {k: without_passing(v, scratch) for k, v in value.items() if k not in PASSING}
    if isinstance(value, list | tuple):
        return [without_passing(v, scratch) for v in value]
    return value.replace(f"{scratch}/", "") if isinstance(value, str) else value


def fingerprint(directory: Path) -> dict[str, list[float]]:
    """Mean, root of the mean square, and a seeded random projection of each tensor in ``directory``'s safetensors."""
    import torch
    from safetensors.torch import load_file

    summary = {}
    for path in sorted(directory.rglob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            values = tensor.double().flatten()
            draw = torch.randn(values.numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            numbers = values.mean(), values.square().mean().sqrt(), values @ draw / draw.norm()
            summary[f"{path.relative_to(directory)}:{name}"] = [float(n) for n in numbers]
    return summary


def differences(then: Any, now: Any, where: str = "") -> Iterator[str]:
    """Each place where two reports differ: decisions, words and counts at all, other numbers beyond ``TOLERANCE``."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in {**then, **now}:
            if key not in then or key not in now:
                yield f"{where}/{key}: only {'now' if key in now else 'then'}"
            else:
                yield from differences(then[key], now[key], f"{where}/{key}")
    elif isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            yield f"{where}: {len(then)} then, {len(now)} now"
        for i, pair in enumerate(zip(then, now, strict=False)):
            yield from differences(*pair, f"{where}/{i}")
    elif isinstance(then, float) and isinstance(now, int | float):
        if not math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{where}: {then} then, {now} now"
    elif then != now:
        yield f"{where}: {then!r} then, {now!r} now"
