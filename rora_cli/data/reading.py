"""Reads the rows of a source's splits: finds columns, maps labels, drops unusable rows, and counts everything odd."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from rora_cli.data.columns import KNOWN_COLUMNS, NoLabelsError, find_columns, plain
from rora_cli.data.fields import HEADERLESS
from rora_cli.data.labels import LabelMap, label_key
from rora_cli.data.rows import Rows
from rora_cli.data.source import ALL, Source
from rora_cli.data.table import Table
from rora_cli.data.tables import read_table
from rora_cli.errors import DataError
from rora_cli.files import sha256_file
from rora_cli.results.data import DataSummary, SplitSummary

#: Largest number of rows of a split that is read into memory; of a larger split, a seeded sample of this size.
MAX_ROWS_READ = 1_000_000


class _Part(NamedTuple):
    """The part of a table that is read: its label values, and the column and rows of its texts."""

    table: Table
    chosen: Sequence[int] | None
    text_column: str
    where: str
    values: list[Any]
    label_map: LabelMap


@dataclass
class Reader:
    """Reads splits of one source, and collects what the summary needs.

    ``text_column``, ``label_column`` and ``label_map`` come from the user, and take precedence over every convention.
    """

    source: Source
    label_names: Sequence[str]
    text_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    seed: int = 0
    columns: tuple[str, str] | None = None
    mapping: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    _label_maps: dict[tuple[str, ...] | None, LabelMap] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.note(*self.source.notes)

    def note(self, *sentences: str) -> None:
        """Keep sentences for the user, each once."""
        self.notes += [sentence for sentence in sentences if sentence not in self.notes]

    def read(self, split: str) -> Rows:
        """The usable rows of ``split``, in file order.

        Raises:
            NoLabelsError: no row has a text and a label.
            DataError: a file, column or label does not fit.
        """
        files = self.source.splits[split]()
        tables = [f if isinstance(f, Table) else read_table(f, self._known_columns()) for f in files.values()]
        texts: list[str] = []
        labels: list[int] = []
        dropped: Counter[str] = Counter()
        chosen_rows = choose_rows(tables, self.seed)
        if any(chosen is not None for chosen in chosen_rows):
            total = sum(table.rows for table in tables)
            self.note(f"the {split} split has {total:,} rows; a seeded sample of {MAX_ROWS_READ:,} was read")
        parts = [self._labelled(table, chosen) for table, chosen in zip(tables, chosen_rows, strict=True) if table.rows]
        for label_map in {id(part.label_map): part.label_map for part in parts}.values():
            # All parts together, so that shards agree on what a label means.
            label_map.ids([value for part in parts if part.label_map is label_map for value in part.values])
            self.mapping |= label_map.mapping
            self.note(*label_map.notes)
        for part in parts:
            self._take_rows(part, texts, labels, dropped)
        if not any(table.rows for table in tables):
            raise NoLabelsError(f"{self._place(split)} has no rows; give a file that holds some")
        if not texts:
            raise NoLabelsError(
                f"{self._place(split)} has no labelled text ({dropped['empty']} empty and "
                f"{dropped['unlabelled']} unlabelled rows); choose another split or another data set"
            )
        rows = Rows(tuple(texts), tuple(labels))
        self.inputs |= {
            name: rows.fingerprint if isinstance(file, Table) else sha256_file(file) for name, file in files.items()
        }
        self.dropped += dropped
        return rows

    def _place(self, split: str) -> str:
        return self.source.origin if split == ALL else f"the {split} split of {self.source.origin}"

    def _known_columns(self) -> frozenset[str]:
        return KNOWN_COLUMNS | {plain(name) for name in (self.text_column, self.label_column) if name}

    def _labelled(self, table: Table, chosen: Sequence[int] | None) -> _Part:
        where = str(table.path)
        if not table.has_header:
            where += " (read without a header)"
        columns = self._find_columns(table, where)
        values = [_single(value) for value in table.read(columns[1], chosen)]
        names = self.source.class_names or table.class_names.get(columns[1]) or _names_beside(table, values, chosen)
        label_map = self._label_maps.get(names)
        if label_map is None:
            label_map = LabelMap(self.label_names, where, class_names=names, given=self.label_map)
            self._label_maps[names] = label_map
        label_map.where = where
        self.columns = columns
        return _Part(table, chosen, columns[0], where, values, label_map)

    def _take_rows(self, part: _Part, texts: list[str], labels: list[int], dropped: Counter[str]) -> None:
        ids = part.label_map.ids(part.values)
        for row, (text, label) in enumerate(zip(_texts(part), ids, strict=True), 1):
            if label < 0:
                dropped["unlabelled"] += 1
            elif text is None or not _checked(text, row, part.text_column, part.where).strip():
                dropped["empty"] += 1
            else:
                texts.append(text)
                labels.append(label)

    def _find_columns(self, table: Table, where: str) -> tuple[str, str]:
        if self.columns is not None and self.columns[0] in table.names and self.columns[1] not in table.names:
            raise NoLabelsError(f"{where} has no column {self.columns[1]!r}; give labelled data")
        if not table.has_header and self.text_column is None and self.label_column is None:
            first, second = ("texts", "labels") if table.names == HEADERLESS else ("labels", "texts")
            self.note(f"{table.path} names no columns: {first} were read from the first and {second} from the second")
            return HEADERLESS
        hinted = self.source.text_column in table.names and self.source.label_column in table.names
        return find_columns(
            table.names,
            where,
            text_column=self.text_column or (self.source.text_column if hinted else None),
            label_column=self.label_column or (self.source.label_column if hinted else None),
        )

    def summary(self, spec: str, splits: Mapping[str, tuple[str, Rows]], **counts: int) -> DataSummary:
        """The summary of ``splits`` (name -> name in the source, rows); ``counts`` are fields of ``DataSummary``."""
        text_column, label_column = self.columns or HEADERLESS
        counts |= {"empty_rows": self.dropped["empty"], "unlabelled_rows": self.dropped["unlabelled"]}
        self.note(*_sentences(counts))
        used = set().union(*(label_map.used for label_map in self._label_maps.values()))
        if idle := [label for label in self.label_map or () if label_key(label) not in used]:
            self.note(f"the label map names {', '.join(map(repr, idle))}, which no row has as its label")
        for name, (_, rows) in splits.items():
            missing = [label for i, label in enumerate(self.label_names) if i not in set(rows.labels)]
            if missing:
                which = "" if name == ALL else f"{name.replace('_', '-')} "
                self.note(f"no {which}row has the label {', '.join(missing)}")
        return DataSummary(
            spec=spec,
            origin=self.source.origin,
            revision=self.source.revision,
            license=self.source.license,
            text_column=text_column,
            label_column=label_column,
            label_mapping={name: self.label_names[i] for name, i in sorted(self.mapping.items())},
            splits={name: _split_summary(made, rows, self.label_names) for name, (made, rows) in splits.items()},
            inputs=dict(self.inputs),
            notes=tuple(self.notes),
            **counts,
        )


def choose_rows(tables: Sequence[Table], seed: int) -> list[list[int] | None]:
    """The indices of the rows to read, for each table: a seeded sample of MAX_ROWS_READ, or None for all rows."""
    starts = [0, *accumulate(table.rows for table in tables)]
    total = starts[-1]
    if total <= MAX_ROWS_READ:
        return [None] * len(tables)
    drawn = sorted(random.Random(seed).sample(range(total), MAX_ROWS_READ))
    cuts = [bisect_left(drawn, start) for start in starts]
    return [[i - start for i in drawn[low:high]] for start, (low, high) in zip(starts, pairwise(cuts), strict=False)]


def _sentences(counts: Mapping[str, int]) -> Iterable[str]:
    meanings = {
        "empty_rows": "{} without text: dropped",
        "unlabelled_rows": "{} without a label: dropped",
        "duplicate_rows": "{} with the text of another row of the same split: kept",
        "conflicting_rows": "{} with the text of a row that has another label: kept",
        "shared_rows": "{} of train with a text that is held out: removed from train",
    }
    for name, sentence in meanings.items():
        count = counts.get(name, 0)
        if count:
            yield sentence.format(f"{count:,} row{'s' if count > 1 else ''}")


def _names_beside(table: Table, values: Sequence[Any], chosen: Sequence[int] | None) -> tuple[str, ...] | None:
    """Class names from a ``label_text`` column beside integer labels (as in SetFit's sets); None if inconsistent."""
    if "label_text" not in table.names or not all(type(value) is int and 0 <= value < 1000 for value in values):
        return None
    pairs = set(zip(values, map(str, table.read("label_text", chosen)), strict=True))
    names = dict(pairs)
    if len(names) != len(pairs) or sorted(names) != list(range(len(names))):
        return None
    return tuple(names[i] for i in range(len(names)))


def _single(value: Any) -> Any:
    """The label itself, if ``value`` is a list that holds only one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _texts(part: _Part) -> list[Any]:
    """The texts of a part. Numbers become text again, because readers of CSV and JSON take a text "10" for a number."""
    values = part.table.read(part.text_column, part.chosen)
    if not any(isinstance(value, str) for value in values):
        return values
    return [_written(value) if isinstance(value, (int, float)) else value for value in values]


def _written(value: float) -> str | None:
    return None if value != value else str(value)


def _checked(text: Any, row: int, column: str, where: str) -> str:
    if not isinstance(text, str):
        kind = type(text).__name__
        raise DataError(f"column {column!r} of {where} holds {kind} in row {row}, not text; give --text-column")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"row {row} of {where} is not valid Unicode (a lone surrogate); repair or remove it") from None
    return text


def _split_summary(source_split: str, rows: Rows, label_names: Sequence[str]) -> SplitSummary:
    counts = Counter(rows.labels)
    per_class = {name: counts[i] for i, name in enumerate(label_names)}
    return SplitSummary(source_split, len(rows), per_class, rows.fingerprint)
