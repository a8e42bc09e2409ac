"""Reads files into columns: JSON, JSON lines, CSV, TSV, tab-separated text, Parquet and Arrow.

No format here can run code: rora ignores pickles, dataset scripts and README front matter. A new format is one function
and one line in ``READERS``. ``data.textfile`` unpacks and decodes text files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rora_cli import stand_ins
from rora_cli.data import fields
from rora_cli.data.columns import plain
from rora_cli.data.table import Table
from rora_cli.data.textfile import inner_suffix, read_text
from rora_cli.errors import DataError


def read_table(path: Path, known_columns: frozenset[str]) -> Table:
    """Read ``path`` by its ending; ``known_columns`` (as in ``columns.plain``) help to tell a header from a first row.

    Raises:
        DataError: unknown ending, not a regular file, unreadable, or malformed (naming the file and the line).
    """
    reader = READERS.get(inner_suffix(path.name))
    if reader is None and path.suffix.lower() in _WORKBOOKS:
        raise DataError(f"{path} is a spreadsheet, which is not read; save the sheet as CSV (UTF-8) and give that")
    if reader is None and path.suffix.lower() != ".zip":
        raise DataError(f"{path} is not in a format that is read as data; use one of {', '.join(sorted(READERS))}")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; give a data file or a directory of data files")
    try:
        stand_in = stand_ins.look(path)
        if stand_in is not None and not stand_in.is_blank:
            raise DataError(f"{path} {stand_in.what}; {stand_in.advice}")
        return _read_archive(path, known_columns) if reader is None else reader(path, known_columns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error


def _read_archive(path: Path, known: frozenset[str]) -> Table:
    """The table in a .zip archive with a single data file."""
    from rora_cli.data.textfile import member_name

    reader = READERS.get(inner_suffix(member_name(path, READERS)), _csv)
    if reader in (_parquet, _arrow):
        raise DataError(f"{path} holds Parquet or Arrow, which is compressed already; unpack it and give the file")
    return reader(path, known)


def column_table(
    path: Path | str,
    columns: Mapping[str, list[Any]],
    *,
    has_header: bool = True,
    class_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """A table of columns in memory, all of the same length; ``path`` may describe in words where they are."""

    def read(name: str, indices: Sequence[int] | None) -> list[Any]:
        values = columns[name]
        return values if indices is None else [values[i] for i in indices]

    rows = len(next(iter(columns.values()), []))
    return Table(path, tuple(columns), rows, read, class_names or {}, has_header)


def record_table(path: Path | str, records: Sequence[Any]) -> Table:
    """A table of records, one mapping for each row; a row may lack columns that another has.

    Raises DataError for a row that is no mapping.
    """
    names: dict[str, None] = {}
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            kind = "a JSON object" if isinstance(path, Path) else "a dict"
            raise DataError(f"row {number} of {path} is not {kind}; every row needs the form {{column: value}}")
        names.update(dict.fromkeys(record))

    def read(name: str, indices: Sequence[int] | None) -> list[Any]:  # lazy: rows may share no column at all
        chosen = records if indices is None else [records[i] for i in indices]
        return [record.get(name) for record in chosen]

    return Table(path, tuple(names), len(records), read)


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{where} is nested too deeply to be data; give flat rows of column and value") from None
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON ({error}); repair or remove it") from None


def _json_lines(path: Path, known: frozenset[str]) -> Table:
    text = read_text(path)
    if text.lstrip().startswith("["):  # an array under the wrong ending, or a list a line
        try:
            return _table_of(path, json.loads(text), known)
        except (ValueError, RecursionError):
            pass
    # Only "\n" ends a row: str.splitlines would also cut at U+0085 and U+2028, which real texts hold.
    lines = enumerate(text.split("\n"), 1)
    rows = [_parse_json(line, f"line {n} of {path}") for n, line in lines if line.strip()]
    return _rows_table(path, rows, known)


def _json(path: Path, known: frozenset[str]) -> Table:
    text = read_text(path)
    first_line, more, _ = text.strip().partition("\n")
    if more and first_line.strip()[:1] + first_line.strip()[-1:] in ("{}", "[]"):
        return _json_lines(path, known)
    return _table_of(path, _parse_json(text, str(path)), known)


def _table_of(path: Path, content: Any, known: frozenset[str]) -> Table:
    """The rows of a JSON document, in any form that pandas, ``datasets`` and the hub's viewer write."""
    if isinstance(content, list):
        return _rows_table(path, content, known)
    if not isinstance(content, dict):
        return record_table(path, [content])
    names = content.get("columns")
    if isinstance(names, list) and isinstance(content.get("data"), list):  # pandas: orient="split"
        return _rows_table(path, [names, *content["data"]], known, has_header=True)
    lists = {name: value for name, value in content.items() if isinstance(value, list)}
    rows = {name: value for name, value in lists.items() if value and isinstance(value[0], dict)}
    if "row" in next(iter(rows.get("rows", ())), ()):  # the hub's viewer
        return _rows_table(path, lists["rows"], known)
    if "data" in lists and not known.intersection(plain(name) for name in content):
        return _rows_table(path, lists["data"], known)
    if len(rows) == 1 and not known.intersection(plain(name) for name in lists):
        return _rows_table(path, next(iter(rows.values())), known)
    if len(rows) > 1 and len(rows) == len(lists):
        raise DataError(
            f"{path} holds several lists of rows ({', '.join(map(repr, list(rows)[:4]))}); save each as a file of its "
            "own, such as train.jsonl and test.jsonl, and give their directory"
        )
    if content and len(lists) == len(content):
        if len({len(values) for values in lists.values()}) > 1:
            raise DataError(f"the columns of {path} differ in length; every row needs a value in each")
        return column_table(path, lists)
    if content and all(isinstance(value, dict) for value in content.values()):
        return _nested_table(path, content, known)
    return record_table(path, [content])


def _rows_table(path: Path, rows: list[Any], known: frozenset[str], *, has_header: bool = False) -> Table:
    """The table of rows that are mappings, mappings under "row" (the hub's viewer), or lists of values."""
    if rows and all(isinstance(row, dict) and isinstance(row.get("row"), dict) for row in rows):
        rows = [row["row"] for row in rows]
    if rows and all(isinstance(row, list) for row in rows):
        return _field_table(path, fields.to_columns(path, rows, known, has_header=has_header or None))
    return record_table(path, rows)


def _nested_table(path: Path, content: dict[str, dict[str, Any]], known: frozenset[str]) -> Table:
    """The table in pandas' form ``{column: {index: value}}``, or with orient="index" ``{index: {column: value}}``."""
    inner = list(content.values())
    is_by_column = bool(known.intersection(plain(name) for name in content))
    if not is_by_column and not known.intersection(plain(name) for name in inner[0]):
        is_by_column = all(name.isdigit() for name in inner[0])
    if not is_by_column:
        return record_table(path, inner)
    if any(column.keys() != inner[0].keys() for column in inner):
        raise DataError(f"the columns of {path} differ in length; every row needs a value in each")
    return column_table(path, {name: list(column.values()) for name, column in content.items()})


def _csv(path: Path, known: frozenset[str]) -> Table:
    return _field_table(path, fields.read(path, read_text(path), ",", known))


def _tsv(path: Path, known: frozenset[str]) -> Table:
    return _field_table(path, fields.read(path, read_text(path), "\t", known))


def _field_table(path: Path, columns: fields.Columns) -> Table:
    return column_table(path, columns.values, has_header=columns.has_header)


def _parquet(path: Path, _known: frozenset[str]) -> Table:
    from rora_cli.data import columnar

    return columnar.parquet(path)


def _arrow(path: Path, _known: frozenset[str]) -> Table:
    from rora_cli.data import columnar

    return columnar.arrow(path)


READERS: Mapping[str, Callable[[Path, frozenset[str]], Table]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".txt": _tsv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
}
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
