"""The result of every reader of data files: named columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """Columns of one file. ``read(name, indices)`` returns the values of a column, all or those at ``indices``.

    ``class_names`` maps a column of integer labels to their names, if the file holds them. ``has_header`` is False if
    the file names no columns; then their contents told which is which.
    """

    path: Path | str
    names: tuple[str, ...]
    rows: int
    read: Callable[[str, Sequence[int] | None], list[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_header: bool = True
