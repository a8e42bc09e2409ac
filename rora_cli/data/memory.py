"""Rows in a Python caller's memory: pairs, dicts, columns, pandas, Arrow or ``datasets``; one or several splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from rora_cli.data import tables
from rora_cli.data.local import canonical_split
from rora_cli.data.source import ALL, Request, Source
from rora_cli.errors import DataError, UsageError

_PREFIX = "in memory: "
_SPLITS = ("train", "validation", "test")
_FORMS = (
    "a path, a name, a list of (text, label) pairs or of dicts, a dict of columns, a datasets.Dataset or DatasetDict, "
    "a pandas.DataFrame or a pyarrow.Table"
)


class InMemory(str):
    """Rows in memory, as a text that names them in a written config.

    The name tells their form, number and hash, so that equal rows make equal configs. ``splits`` maps a split to its
    columns, and to the names of the integer labels of each column. It holds plain Python values only, so that it can
    travel between processes.
    """

    splits: Mapping[str, tuple[Mapping[str, list[Any]], Mapping[str, tuple[str, ...]]]]

    def __new__(cls, name: str, splits: Mapping[str, Any] | None = None) -> InMemory:
        made = super().__new__(cls, name)
        made.splits = splits or {}
        return made

    def __deepcopy__(self, _: Any) -> InMemory:
        return self


def named(data: Any, option: str) -> str:
    """``data`` for a config: a path or name as it is, rows in memory as :class:`InMemory`.

    Raises:
        UsageError: rora cannot read this form of data; the message names ``option`` and the possible forms.
        DataError: a row has another form than the others.
    """
    if isinstance(data, str):
        return data
    if isinstance(data, PathLike):
        return str(data)
    splits = {split: _columns(rows, option, split) for split, rows in (_split_rows(data) or {ALL: data}).items()}
    digest = hashlib.sha256()
    for split, (columns, names) in splits.items():
        digest.update(json.dumps([split, columns, names], default=repr, sort_keys=True).encode())
    counts = ", ".join(
        f"{len(next(iter(columns.values()), [])):,} {'' if split == ALL else split + ' '}rows"
        for split, (columns, _) in splits.items()
    )
    return InMemory(f"{_PREFIX}{type(data).__name__} of {counts}, sha256 {digest.hexdigest()[:16]}", splits)


def from_memory(request: Request) -> Source | None:
    """The rows that the request's spec holds; None if it holds none.

    Raises DataError if the request asks for a revision, or only has the name of rows that were in memory once.
    """
    spec = request.spec
    if not isinstance(spec, InMemory):
        if spec.startswith(_PREFIX):
            raise DataError(f"{spec!r} names rows that were in memory then; give the rows, or a file of them")
        return None
    if request.revision is not None:
        raise DataError("rows in memory have no revisions; leave the revision out")

    def table(split: str) -> Mapping[str, tables.Table]:
        columns, names = spec.splits[split]
        where = "the rows in memory" if split == ALL else f"the {split} rows in memory"
        return {where: tables.column_table(where, columns, class_names=names)}

    return Source(str(spec), {split: (lambda split=split: table(split)) for split in spec.splits})  # type: ignore[misc]


def _split_rows(data: Any) -> dict[str, Any] | None:
    """The splits of a mapping whose keys name splits, such as a DatasetDict; None for anything else."""
    if not isinstance(data, Mapping) or not data or not all(isinstance(key, str) for key in data):
        return None
    splits = {canonical_split(key): rows for key, rows in data.items()}
    return splits if splits.keys() & set(_SPLITS) and not _is_columns(data) else None


def _is_columns(data: Mapping[str, Any]) -> bool:
    return all(
        isinstance(v, (list, tuple)) and not (v and isinstance(v[0], (tuple, list, dict))) for v in data.values()
    )


def _columns(data: Any, option: str, split: str) -> tuple[dict[str, list[Any]], dict[str, tuple[str, ...]]]:
    where = option if split == ALL else f"{option}[{split!r}]"
    names: dict[str, tuple[str, ...]] = {}
    module = type(data).__module__.partition(".")[0]
    if module == "datasets" and hasattr(data, "column_names"):
        if not hasattr(data, "__len__"):
            raise UsageError(f"{where} is a stream without an end; give the rows that are to be read, as a Dataset")
        plain = data.with_format(None)
        columns = {name: list(plain[name]) for name in data.column_names}
        features = data.features or {}
        names = {name: tuple(features[name].names) for name in columns if hasattr(features[name], "names")}
    elif module == "pandas" and hasattr(data, "columns"):
        columns = {str(name): data[name].tolist() for name in data.columns}
    elif module == "pyarrow" and hasattr(data, "to_pydict"):
        columns = data.to_pydict()
    elif isinstance(data, Mapping) and data and _is_columns(data):
        columns = {str(name): list(values) for name, values in data.items()}
    elif isinstance(data, Sequence) and not isinstance(data, (bytes, bytearray)):
        columns = _of_rows(data, where)
    else:
        raise UsageError(f"{where} is {_FORMS}, not {type(data).__name__}")
    if len({len(values) for values in columns.values()}) > 1:
        raise DataError(f"the columns of {where} differ in length; every row needs a value in each")
    if not any(map(len, columns.values())):
        raise DataError(f"{where} holds no rows; give some")
    return {name: [_plain(value) for value in values] for name, values in columns.items()}, names


def _of_rows(rows: Sequence[Any], where: str) -> dict[str, list[Any]]:
    if all(isinstance(row, Mapping) for row in rows):
        found: dict[str, None] = {}
        for row in rows:
            found.update(dict.fromkeys(map(str, row)))
        return {name: [row.get(name) for row in rows] for name in found}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, (tuple, list)) or len(row) != 2 or not isinstance(row[0], (str, type(None))):
            shown = f"{type(row).__name__} of {len(row)}" if isinstance(row, (tuple, list)) else type(row).__name__
            raise DataError(f"row {number} of {where} is no (text, label) pair and no dict, but {shown}; mend the row")
    return {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}


def _plain(value: Any) -> Any:
    """A value of NumPy, torch or pandas as a Python value."""
    if isinstance(value, (str, int, float, list, type(None))):
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.item() if hasattr(value, "item") and not isinstance(value, Iterable) else value
