"""Files to columns: JSON, JSON lines, CSV, TSV, tab-separated text, Parquet and Arrow, read as plain data.

No format here can run code: pickle, dataset scripts and README front matter are never looked at. A new format is one
function and one line in ``READERS``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rora_cli.errors import DataError

#: Text formats are read whole; a larger file belongs in Parquet.
MAX_TEXT_BYTES = 2 << 30

#: Names that only tables without a header get.
HEADERLESS = ("text", "label")


@dataclass(frozen=True)
class Table:
    """Columns of one file. ``read(name, indices)`` gives a column's values, all of them or those at ``indices``.

    ``class_names`` maps an integer label column to its names, where the file itself carries them.
    """

    path: Path
    names: tuple[str, ...]
    rows: int
    read: Callable[[str, Sequence[int] | None], list[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_table(path: Path, known_columns: frozenset[str]) -> Table:
    """Read ``path`` by its ending; ``known_columns`` (lower case) tell a header line from a first row.

    Raises:
        DataError: unknown ending, not a regular file, unreadable, or malformed (naming the file and the line).
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is not in a format that is read as data; use one of {', '.join(sorted(READERS))}")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; give a data file or a directory of data files")
    try:
        return reader(path, known_columns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise DataError(f"{path} has {size >> 20} MiB, more than is read of a text format; convert it to Parquet")
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); convert it, say with iconv -t UTF-8") from None


def _column_table(path: Path, columns: Mapping[str, list[Any]]) -> Table:
    def read(name: str, indices: Sequence[int] | None) -> list[Any]:
        values = columns[name]
        return values if indices is None else [values[i] for i in indices]

    return Table(path, tuple(columns), len(next(iter(columns.values()), [])), read)


def _record_table(path: Path, records: list[Any]) -> Table:
    names: dict[str, None] = {}
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(f"row {number} of {path} is not a JSON object; every row needs the form {{column: value}}")
        names.update(dict.fromkeys(record))

    def read(name: str, indices: Sequence[int] | None) -> list[Any]:  # not before: rows may share no column at all
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


def _json_lines(path: Path, _known: frozenset[str]) -> Table:
    # Only "\n" ends a row: str.splitlines would also cut at U+0085 and U+2028, which stand inside real texts.
    lines = enumerate(_text(path).split("\n"), 1)
    return _record_table(path, [_parse_json(line, f"line {n} of {path}") for n, line in lines if line.strip()])


def _json(path: Path, known: frozenset[str]) -> Table:
    text = _text(path)
    first_line = text.lstrip().partition("\n")[0].strip()
    if first_line.startswith("{") and first_line.endswith("}") and "\n" in text.strip():
        return _json_lines(path, known)
    content = _parse_json(text, str(path))
    if isinstance(content, dict) and isinstance(content.get("data"), list) and "text" not in content:
        content = content["data"]
    if isinstance(content, list):
        return _record_table(path, content)
    if isinstance(content, dict) and content and all(isinstance(values, list) for values in content.values()):
        if len({len(values) for values in content.values()}) > 1:
            raise DataError(f"the columns of {path} differ in length; every row needs a value in each")
        return _column_table(path, content)
    return _record_table(path, [content])


def _csv(path: Path, known: frozenset[str]) -> Table:
    return _field_table(path, _records(path, _text(path), ","), known)


def _records(path: Path, text: str, delimiter: str) -> list[list[str]]:
    limit = csv.field_size_limit(MAX_TEXT_BYTES)  # the default, 128 KiB, is less than a long document has
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path} is not valid {path.suffix[1:].upper()} ({error}); quote fields that hold separators, and "
            "double the quotes inside"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return [record for record in records if record]


def _tsv(path: Path, known: frozenset[str]) -> Table:
    text = _text(path)
    records = [line.rstrip("\r").split("\t") for line in text.split("\n") if line.strip()]
    if _is_quoted(records):
        records = _records(path, text, "\t")
    return _field_table(path, records, known)


_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


def _is_quoted(records: list[list[str]]) -> bool:
    """Whether a TSV uses CSV quoting (as pandas writes it) or has bare quotes in its texts (as GLUE and UCI do).

    Quoting is in use where lines differ in their number of fields, or where every field that begins with a quote is
    properly closed and one holds a doubled quote.
    """
    if len({len(record) for record in records}) > 1:
        return any(value.startswith('"') for record in records for value in record)
    opened = [value for record in records for value in record if value.startswith('"')]
    return all(_QUOTED.fullmatch(value) for value in opened) and any('""' in value[1:-1] for value in opened)


def _field_table(path: Path, records: list[list[str]], known: frozenset[str]) -> Table:
    if not records:
        return _column_table(path, {})
    header = [name.strip() for name in records[0]]
    if len(header) == 2 and not known.intersection(name.lower() for name in header):
        header, body, first = list(HEADERLESS), records, 1
    else:
        body, first = records[1:], 2
    if len(set(header)) < len(header):
        raise DataError(f"{path} names a column twice in its first line; give every column its own name")
    for number, record in enumerate(body, first):
        if len(record) != len(header):
            raise DataError(f"record {number} of {path} has {len(record)} fields instead of {len(header)}; repair it")
    return _column_table(path, {name: [record[i] for record in body] for i, name in enumerate(header)})


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
}
