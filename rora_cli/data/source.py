"""A data set that was found but not yet read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rora_cli.data.table import Table

#: Name of the only split of a source without splits: all rows of a file, or of a directory without split files.
ALL = "all"

#: A function that returns the files of one split, by their names in the source. It is called when the split is needed,
#: because it may download them. Rows in memory are returned as tables.
Files = Callable[[], "Mapping[str, Path] | Mapping[str, Table]"]


@dataclass(frozen=True)
class Request:
    """The data set that the user named. ``revision`` belongs to the hub; without ``allow_download``, only its cache
    is used."""

    spec: str
    revision: str | None = None
    allow_download: bool = True


@dataclass(frozen=True)
class Source:
    """A data set. ``splits`` maps train, validation, test, ``all`` or the source's own name of a split to its files.

    The columns and the ``class_names`` of integer labels are set if the source knows them for sure.
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
    """``files``, which are local already, as the files of a split."""
    return lambda: files
