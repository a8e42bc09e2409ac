"""What every reader of data files hands over: named columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """Columns of one file. ``read(name, indices)`` gives a column's values, all of them or those at ``indices``.

    ``class_names`` maps an integer label column to its names, where the file itself carries them. ``has_header`` is
    False where the file names no columns, and they were told by what stands in them.
    """

    path: Path | str
    names: tuple[str, ...]
    rows: int
    read: Callable[[str, Sequence[int] | None], list[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_header: bool = True
