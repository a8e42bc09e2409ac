"""When memory runs out: one sentence that says which of the command's options would make the work fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from rora_cli.errors import NoMemoryError, ProcessDied, is_out_of_memory

_SIGKILL = 9

Run = TypeVar("Run", bound=Callable[..., Any])


def says_what_fits(run: Run) -> Run:
    """``run(config, ...)`` of a command, whose NoMemoryError names the options of ``config`` that need less memory."""

    @wraps(run)
    def guarded(config: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return run(config, *arguments, **options)
        except Exception as error:
            if isinstance(error, ProcessDied) and error.by_signal == _SIGKILL:
                raise NoMemoryError(
                    f"{error}, as the system does where memory runs out; if it did, {advice(config)}"
                ) from error
            if not is_out_of_memory(error):
                raise
            raise NoMemoryError(f"memory ran out{_asked(error)}; {advice(config, str(error))}") from error

    return guarded  # type: ignore[return-value]


def advice(config: Any, said: str = "") -> str:
    """What may help, by the options that ``config`` has and that are not at their least already."""
    ways: list[str] = []
    rows = getattr(config, "micro_batch_size", None) or _batch_size(config)
    if rows:
        option = "--micro-batch-size" if hasattr(config, "micro_batch_size") else "--batch-size"
        ways += [f"{option} {rows // 2}"] if rows > 1 else []
    if getattr(config, "gradient_checkpointing", True) is False:
        ways.append("--gradient-checkpointing")
    if rows and _in_float32(getattr(config, "precision", "")):  # a search holds no activations for a backward pass
        ways.append("--precision bf16")
    if getattr(config, "dtype", "") in (None, "float32"):
        ways.append("--dtype bfloat16")
    if hasattr(config, "max_length"):
        length = config.max_length
        ways.append(f"--max-length {length // 2}" if length and length > 16 else "a smaller --max-length")
    for option in ("max_train_rows", "max_rows"):
        if hasattr(config, option):
            ways.append(f"a smaller --{option.replace('_', '-')}")
    if getattr(config, "workers", 1) > 1:
        ways.append("--workers 1")
    if getattr(config, "device", "cpu") != "cpu" and any(kind in said for kind in ("CUDA", "HIP", "MPS")):
        ways.append("--device cpu")
    if not ways:
        return "end other programs, or use a machine with more"
    return f"try {', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else f"try {ways[0]}"


def _in_float32(precision: str) -> bool:
    if precision != "auto":
        return precision == "fp32"
    import torch

    from rora_cli.training.run import mixed_precision

    return mixed_precision(precision, on_cpu=not torch.cuda.is_available()) == "no"


def _batch_size(config: Any) -> int | None:
    if hasattr(config, "settings"):
        return int(config.settings().train.batch_size)
    return getattr(config, "batch_size", None)


def _asked(error: BaseException) -> str:
    """How much was asked for, where the library says so; or what an inner command said already."""
    import re

    found = re.search(r"[Tt]ried to allocate ([\d.]+ ?[A-Za-z]+)|ran out \(([^)]+)\)", str(error))
    return f" ({found[1] + ' were asked for' if found[1] else found[2]})" if found else ""
