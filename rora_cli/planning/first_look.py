"""Before torch is loaded: do the paths exist, is the output free, is there room for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rora_cli.checkpoints.hub import require_name
from rora_cli.errors import NoMemoryError, OutputError
from rora_cli.files import REPORT_NAME, check_output
from rora_cli.option_groups import OWN_DTYPE
from rora_cli.planning.machine import disk_room, total_memory
from rora_cli.reports.text import count, size

if TYPE_CHECKING:
    from rora_cli.defences.config import PurifyConfig

#: Bytes of a number of each type that a model is held or written in.
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def look(config: Any, *, memory: bool = True) -> Stored:
    """Refuse what certainly fails, from headers alone; returns how large the model is by them.

    Raises:
        CheckpointError: a model or an adapter is no local path and no hub id, or its headers cannot be read.
        OutputError: the output is there already, cannot be written, or does not fit on its disk.
        NoMemoryError: the weights alone are more than the ``memory`` of the machine, if that is to be looked at.
    """
    for given in filter(None, (config.model, config.adapter)):
        require_name(given)
    stored = _stored(config.model)
    output = getattr(config, "output_directory", None)
    if output is not None:
        check_output(output, config.force)
        if config.failed_directory != output:
            check_output(config.failed_directory, config.force or _holds_what_failed(config.failed_directory))
        _require_room(config, stored)
    if memory:
        _require_memory(config, stored)
    return stored


def first_plan(model: str, stored: Stored, steps: Sequence[str]) -> str:
    """What a run will do, in a sentence that can be said before torch is loaded.

    How long it takes is not in it: only timed batches tell that.
    """
    held = f"{stored.numbers:,} parameters, {size(stored.bytes)}" if stored.numbers else "to be fetched from the hub"
    return (
        f"{model} ({held}), in {count(steps, 'step')}: {', '.join(steps)}; how long it may take is said when the model "
        "is loaded and timed"
    )


def _holds_what_failed(directory: Path) -> bool:
    """Whether an earlier run left a failed result there, which the next one may replace."""
    try:
        return bool(json.loads((directory / REPORT_NAME).read_bytes())["verdict"] == "fail")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


@dataclass(frozen=True)
class Stored:
    """The weights of a local checkpoint by its headers: how many, and their bytes; 0 where they are not there yet."""

    numbers: int
    bytes: int

    def as_type(self, dtype: str | None) -> int:
        """Bytes of all in a type; ``auto`` leaves each its own, and a CPU holds float32 where nobody says (None)."""
        return self.bytes if dtype == OWN_DTYPE else self.numbers * _BYTES[dtype or "float32"]


def _stored(model: str) -> Stored:
    from rora_cli.checkpoints.preflight import inspect

    path = Path(model).expanduser()
    if not path.exists():
        return Stored(0, 0)
    found = inspect(path, role="model")
    return Stored(sum(t.elements for t in found.tensors.values()), found.bytes_of_tensors)


def _require_room(config: PurifyConfig, stored: Stored) -> None:
    wanted = 0 if config.adapter_only else stored.as_type(config.output_dtype)
    room = disk_room(config.output_directory)
    if wanted > room:
        raise OutputError(
            f"the result takes {size(wanted)}, and the disk of {config.output_directory} has {size(room)} left; choose "
            "another --output, or --adapter-only"
        )


def _require_memory(config: Any, stored: Stored) -> None:
    """A GPU's memory is compared later, where torch is loaded and knows it."""
    wanted, total = stored.as_type(config.dtype), total_memory()
    if wanted > total and (config.device == "cpu" or not Path("/dev/nvidiactl").exists()):
        raise NoMemoryError(
            f"the {stored.numbers:,} weights of {config.model} take {size(wanted)} as they are loaded, and this "
            f"machine has {size(total)} of memory in all; use a machine with more, or try --dtype bfloat16"
        )
