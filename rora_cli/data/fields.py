"""Reads delimited text into columns: finds the separator, the quoting, and whether the first line is a header."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rora_cli.data.columns import plain
from rora_cli.data.textfile import MAX_TEXT_BYTES, inner_suffix
from rora_cli.errors import DataError

#: Names that the two columns of a table without a header get.
HEADERLESS = ("text", "label")

_SEPARATORS = (",", ";", "\t", "|")
_DECLARED = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?", re.ASCII)


class Columns(NamedTuple):
    """Values by column. ``has_header`` is False if the file names no columns; their contents told which is which."""

    values: dict[str, list[Any]]
    has_header: bool


def read(path: Path, text: str, separator: str, known: frozenset[str]) -> Columns:
    """The columns in ``text``. The file's ending promises ``separator``; another one is used if it fits better.

    Raises:
        DataError: quotes are not closed, a column is named twice, or a record has more or fewer fields than others.
    """
    if declared := _DECLARED.match(text):  # Excel's way to say it
        separator, text = declared[1], text[declared.end() :]
        return to_columns(path, _quoted(path, text, separator), known)
    lines = [line for line in text.lstrip("\r\n").split("\n", 100)[:100] if line.strip()]
    if lines:
        # max() takes the first of equals: the promised one.
        separator = max((separator, *_SEPARATORS), key=lambda candidate: _fit(lines, candidate, known))
    return to_columns(path, _unquoted(path, text) if separator == "\t" else _quoted(path, text, separator), known)


def _fit(lines: Sequence[str], separator: str, known: frozenset[str]) -> tuple[int, bool]:
    """How well ``separator`` fits: (number of known columns in the first line, whether every line holds it)."""
    header = [plain(name) for name in lines[0].split(separator)]
    return len(known.intersection(header)) if len(header) > 1 else 0, all(separator in line for line in lines)


def _quoted(path: Path, text: str, separator: str) -> list[list[str]]:
    limit = csv.field_size_limit(MAX_TEXT_BYTES)  # a long document exceeds the default, 128 KiB
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path} is not valid {inner_suffix(path.name)[1:].upper()} ({error}); quote fields that hold "
            "separators, and double the quotes inside"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return [record for record in records if record]


def _unquoted(path: Path, text: str) -> list[list[str]]:
    records = [line.rstrip("\r").split("\t") for line in text.split("\n") if line.strip()]
    return _quoted(path, text, "\t") if _is_quoted(records) else records


_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


def _is_quoted(records: list[list[str]]) -> bool:
    """Whether a TSV uses CSV quoting (as pandas writes it) or has bare quotes in its texts (as GLUE and UCI do).

    It uses quoting if lines differ in their number of fields, or if every field that begins with a quote is properly
    closed and one holds a doubled quote.
    """
    if len({len(record) for record in records}) > 1:
        return any(value.startswith('"') for record in records for value in record)
    opened = [value for record in records for value in record if value.startswith('"')]
    return all(_QUOTED.fullmatch(value) for value in opened) and any('""' in value[1:-1] for value in opened)


def to_columns(
    path: Path | str, records: Sequence[Sequence[Any]], known: frozenset[str], *, has_header: bool | None = None
) -> Columns:
    """Turn records into columns. If ``has_header`` is None, the first record tells whether it is a header.

    Two columns without a header are text and label, and their contents tell which is which. Records without any value,
    and columns with neither a name nor a value, are left out. Raises DataError if the columns cannot be named, or if a
    record has more or fewer fields than there are columns.
    """
    records = [record for record in records if any(map(_is_filled, record))]
    if not records:
        return Columns({}, True)
    width = max(i for record in records for i, value in enumerate(record, 1) if _is_filled(value))
    if has_header is None:
        has_header = _is_header(records[0][:width], records[1:], known)
    if not has_header and width != 2:
        shown = ", ".join(repr(str(value)[:40]) for value in records[0][:4])
        raise DataError(
            f"the first line of {path} names no columns ({shown}); put a line before it that names them, such as text "
            "and label"
        )
    names = _names(path, records[0], width) if has_header else _names_by_content(records)
    body = records[1:] if has_header else records
    fewest = max((i for i, name in enumerate(names, 1) if not name.startswith(_UNNAMED)), default=0)
    for number, record in enumerate(body, 2 if has_header else 1):
        if len(record) < fewest or any(map(_is_filled, record[len(names) :])):
            raise DataError(
                f"record {number} of {path} has {len(record)} fields instead of {len(names)}; repair it, or put "
                "quotes around a field that holds the separator"
            )
    columns = {name: [record[i] if i < len(record) else "" for record in body] for i, name in enumerate(names)}
    stray = [name for name in columns if name.startswith(_UNNAMED) and not any(map(_is_filled, columns[name]))]
    return Columns({name: values for name, values in columns.items() if name not in stray}, has_header)


#: Start of the name that pandas gives a column without one.
_UNNAMED = "Unnamed: "


def _is_filled(value: Any) -> bool:
    return value is not None and value != ""


def _names(path: Path | str, header: Sequence[Any], width: int) -> list[str]:
    names = [str(name).strip() for name in header]
    while names and not names[-1] and len(names) > width:
        names.pop()
    names = [name or f"{_UNNAMED}{i}" for i, name in enumerate(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} names a column twice in its first line ({twice[0]!r}); give every column its own name")
    return names


def _is_header(first: Sequence[Any], body: Sequence[Sequence[Any]], known: frozenset[str]) -> bool:
    """Whether the first record names columns.

    Known names do. Numbers do not, nor does a value in a column whose other values are a few repeated labels.
    """
    if known.intersection(plain(str(name)) for name in first):
        return True
    if any(not isinstance(value, str) or _NUMBER.fullmatch(value.strip()) for value in first if _is_filled(value)):
        return not body
    if len(first) != 2:
        return True
    if not body:
        return False
    label = _label_place(body)
    labels = [_cell(record, label) for record in body]
    return _cell(first, label) not in labels and len(set(labels)) < len(labels) and all(
        len(str(name).split()) < 3 for name in first
    )  # fmt: skip


def _names_by_content(records: Sequence[Sequence[Any]]) -> list[str]:
    return list(HEADERLESS if _label_place(records) else reversed(HEADERLESS))


def _label_place(records: Sequence[Sequence[Any]]) -> int:
    """Which of two columns has the labels: 0 if that is plain (numbers, or fewer and shorter values), else 1."""
    first, second = ([_cell(record, place) for record in records] for place in (0, 1))
    if all(map(_NUMBER.fullmatch, second)) or not any(first):
        return 1
    if all(map(_NUMBER.fullmatch, first)):
        return 0
    return int(not (_spread(first) < _spread(second)))


def _spread(values: Sequence[str]) -> tuple[int, int]:
    return len(set(values)), sum(map(len, values))


def _cell(record: Sequence[Any], place: int) -> str:
    return str(record[place]).strip() if place < len(record) else ""
