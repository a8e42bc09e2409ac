"""A data set that was found but not yet read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rora_cli.data.table import Table

#: The split that no source named: all rows of a file, or of a directory without split files.
ALL = "all"

#: Gives the files of one split, by their name in the source; called once the split is needed, for it may download them.
#: Rows that are in memory already come as tables.
Files = Callable[[], "Mapping[str, Path] | Mapping[str, Table]"]


@dataclass(frozen=True)
class Request:
    """What the user named. ``revision`` is a hub data set's; without ``allow_download`` the hub's cache must do."""

    spec: str
    revision: str | None = None
    allow_download: bool = True


@dataclass(frozen=True)
class Source:
    """``splits`` maps train, validation, test, ``all`` or the source's own name of a split to its files.

    Columns and ``class_names`` (of integer labels) are hints that the source knows for sure.
    """

    origin: str
    splits: Mapping[str, Files]
    revision: str | None = None
    license: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def at_hand(files: Mapping[str, Path]) -> Files:
    """The files of a split that are local already."""
    return lambda: files
