"""``--clean DATA`` to rows: resolve what was named, read it, map labels, clean, and keep train and held-out apart.

A source is a function ``(spec, revision) -> Source | None`` in ``SOURCES``; the first that knows the name wins, and an
existing local path goes before every name. Everything after that is the same for all sources.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rora_cli.data import splitting
from rora_cli.data.columns import KNOWN_COLUMNS, find_columns
from rora_cli.data.labels import LabelMap
from rora_cli.data.local import canonical_split, find_layout, local_files
from rora_cli.data.rows import Rows, Splits
from rora_cli.data.tables import HEADERLESS, READERS, Table, read_table
from rora_cli.errors import DataError, UsageError
from rora_cli.files import sha256_file
from rora_cli.results.data import DataSummary, SplitSummary

DEV_FRACTION = 0.2

#: Rows of one split that are read into memory; of a larger one, a seeded sample of this many.
MAX_ROWS_READ = 1_000_000


@dataclass(frozen=True)
class Source:
    """A data set that was found but not yet read.

    ``splits`` maps a split (train, validation, test, or the source's own name) to a function that fetches its files.
    Columns and ``class_names`` (of integer labels) are hints that the source knows for sure.
    """

    origin: str
    splits: Mapping[str, Callable[[], Sequence[Path]]]
    revision: str | None = None
    license: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Reading:
    """What one call reads, and what it counts on the way."""

    source: Source
    label_names: Sequence[str]
    text_column: str | None
    label_column: str | None
    label_map: Mapping[str, str] | None
    seed: int
    columns: tuple[str, str] | None = None
    mapping: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    empty_rows: int = 0
    unlabelled_rows: int = 0

    def read(self, split: str) -> Rows:
        """The usable rows of ``split``, in file order.

        Raises:
            DataError: nothing usable is in it, or a column or label does not fit.
        """
        texts: list[str] = []
        labels: list[int] = []
        tables = [read_table(path, self._known_columns()) for path in self.source.splits[split]()]
        for table, chosen in zip(tables, self._choose(tables, split), strict=True):
            self.inputs[table.path.name if len(tables) == 1 else str(table.path)] = sha256_file(table.path)
            if table.rows:
                self._read_table(table, chosen, texts, labels)
        if not texts:
            raise DataError(
                f"the {split} split of {self.source.origin} has no labelled text ({self.empty_rows} empty, "
                f"{self.unlabelled_rows} unlabelled rows); choose another split or another data set"
            )
        return Rows(tuple(texts), tuple(labels))

    def _known_columns(self) -> frozenset[str]:
        return KNOWN_COLUMNS | {name.lower() for name in (self.text_column, self.label_column) if name}

    def _choose(self, tables: Sequence[Table], split: str) -> list[list[int] | None]:
        total = sum(table.rows for table in tables)
        if total <= MAX_ROWS_READ:
            return [None] * len(tables)
        self.notes.append(f"the {split} split has {total:,} rows; a seeded sample of {MAX_ROWS_READ:,} was read")
        drawn = sorted(random.Random(self.seed).sample(range(total), MAX_ROWS_READ))
        chosen: list[list[int] | None] = []
        start = 0
        for table in tables:
            chosen.append([i - start for i in drawn if start <= i < start + table.rows])
            start += table.rows
        return chosen

    def _read_table(self, table: Table, chosen: Sequence[int] | None, texts: list[str], labels: list[int]) -> None:
        where = str(table.path)
        text_column, label_column = self._find_columns(table, where)
        self.columns = (text_column, label_column)
        values = table.read(label_column, chosen)
        names = self.source.class_names or table.class_names.get(label_column) or _names_beside(table, values, chosen)
        label_map = LabelMap(self.label_names, where, class_names=names, given=self.label_map)
        ids = label_map.ids(values)
        self.mapping |= label_map.mapping
        self.notes += [note for note in label_map.notes if note not in self.notes]
        for row, (text, label) in enumerate(zip(table.read(text_column, chosen), ids, strict=True), 1):
            if label < 0:
                self.unlabelled_rows += 1
            elif text is None or not _checked_text(text, row, text_column, where).strip():
                self.empty_rows += 1
            else:
                texts.append(text)
                labels.append(label)

    def _find_columns(self, table: Table, where: str) -> tuple[str, str]:
        if table.names == HEADERLESS and self.text_column is None and self.label_column is None:
            return HEADERLESS
        hinted = self.source.text_column in table.names and self.source.label_column in table.names
        return find_columns(
            table.names,
            where,
            text_column=self.text_column or (self.source.text_column if hinted else None),
            label_column=self.label_column or (self.source.label_column if hinted else None),
        )

    def summary(self, spec: str, splits: Mapping[str, tuple[str, Rows]], **counts: int) -> DataSummary:
        text_column, label_column = self.columns or HEADERLESS
        if self.empty_rows or self.unlabelled_rows:
            self.notes.append(f"dropped {self.empty_rows} rows without text, {self.unlabelled_rows} without label")
        if counts.get("duplicate_rows"):
            self.notes.append(f"{counts['duplicate_rows']} rows repeat the text of another row of their split; kept")
        if counts.get("conflicting_rows"):
            self.notes.append(f"{counts['conflicting_rows']} rows have the text of a row with another label; kept")
        if counts.get("shared_rows"):
            self.notes.append(f"{counts['shared_rows']} train rows were in the held-out split too; removed from train")
        return DataSummary(
            spec=spec,
            origin=self.source.origin,
            revision=self.source.revision,
            license=self.source.license,
            text_column=text_column,
            label_column=label_column,
            label_mapping={name: self.label_names[i] for name, i in sorted(self.mapping.items())},
            splits={name: _split_summary(made, rows, self.label_names) for name, (made, rows) in splits.items()},
            empty_rows=self.empty_rows,
            unlabelled_rows=self.unlabelled_rows,
            inputs=dict(self.inputs),
            notes=tuple(self.notes),
            **counts,
        )


def load_splits(
    spec: str,
    *,
    label_names: Sequence[str],
    text_column: str | None = None,
    label_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    seed: int = 0,
    dev_fraction: float = DEV_FRACTION,
    max_train_rows: int | None = None,
    max_held_out_rows: int | None = None,
    revision: str | None = None,
) -> Splits:
    """Rows to train on and disjoint rows to measure on.

    Held out is the validation split, else the test split, else ``dev_fraction`` of train, drawn seeded and stratified,
    with no text on both sides. Train rows whose text is held out are removed. Limits draw seeded, stratified samples.

    Args:
        spec: local file or directory, ``bundled``, a well-known name, or a hub id with an optional ``:config``.
        label_names: the model's label names, by id.
        label_map: label in the data to label (name or id) of the model, for names that do not match.
        revision: branch, tag or commit of a hub data set.

    Raises:
        DataError: see the sentence; every problem of files, columns and labels.
        HubError: the hub did not give it.
        UsageError: an option is out of range.
    """
    _check_options(dev_fraction, max_train_rows, max_held_out_rows)
    source = resolve(spec, revision)
    reading = _Reading(source, label_names, text_column, label_column, label_map, seed, notes=list(source.notes))
    if "train" not in source.splits:
        raise DataError(f"{source.origin} has no train split, only {', '.join(source.splits)}; name the file to use")
    train = reading.read("train")
    held_out_split, held_out = _read_held_out(reading)
    duplicates, conflicts = splitting.count_repeats(train)
    if held_out is None:
        train, held_out = splitting.split_held_out(train, dev_fraction, seed, source.origin)
        reading.notes.append(f"no held-out split: {len(held_out)} of the train rows were held out (seed {seed})")
        shared = 0
    else:
        held_out_repeats = splitting.count_repeats(held_out)
        duplicates, conflicts = duplicates + held_out_repeats[0], conflicts + held_out_repeats[1]
        train, shared = splitting.remove_shared(train, held_out)
        if not len(train):
            raise DataError(f"every train row of {source.origin} is in its {held_out_split} split too; give other rows")
    train = splitting.sample(train, max_train_rows, seed)
    held_out = splitting.sample(held_out, max_held_out_rows, seed)
    summary = reading.summary(
        spec,
        {"train": ("train", train), "held_out": (held_out_split, held_out)},
        duplicate_rows=duplicates,
        conflicting_rows=conflicts,
        shared_rows=shared,
    )
    return Splits(train, held_out, summary)


def load_rows(
    spec: str,
    *,
    label_names: Sequence[str],
    split: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    seed: int = 0,
    max_rows: int | None = None,
    revision: str | None = None,
) -> tuple[Rows, DataSummary]:
    """The rows of one split, to measure on: ``split``, else validation, else test, else all there is.

    Arguments and errors are those of :func:`load_splits`.
    """
    _check_options(DEV_FRACTION, max_rows, None)
    source = resolve(spec, revision)
    reading = _Reading(source, label_names, text_column, label_column, label_map, seed, notes=list(source.notes))
    if split is not None:
        chosen = canonical_split(split)
        if chosen not in source.splits:
            raise DataError(f"{source.origin} has no split {split!r}; it has {', '.join(source.splits)}")
        rows = reading.read(chosen)
    else:
        chosen, held_out = _read_held_out(reading)
        rows = held_out if held_out is not None else reading.read(chosen := next(iter(source.splits)))
    duplicates, conflicts = splitting.count_repeats(rows)
    rows = splitting.sample(rows, max_rows, seed)
    summary = reading.summary(spec, {chosen: (chosen, rows)}, duplicate_rows=duplicates, conflicting_rows=conflicts)
    return rows, summary


def _read_held_out(reading: _Reading) -> tuple[str, Rows | None]:
    """The first of validation and test that has labels (public test splits often have none), or None."""
    for split in ("validation", "test"):
        if split not in reading.source.splits:
            continue
        before = reading.unlabelled_rows, reading.empty_rows
        try:
            return split, reading.read(split)
        except DataError:
            if reading.unlabelled_rows == before[0]:
                raise
            reading.unlabelled_rows, reading.empty_rows = before
            reading.notes.append(f"the {split} split has no labels and was not used")
    return "made from train", None


def resolve(spec: str, revision: str | None = None) -> Source:
    """Find the data set that ``spec`` names, without reading its rows.

    Raises:
        DataError: no source knows the name; the sentence says which forms there are.
    """
    if not spec.strip():
        raise DataError("the data has no name; give a file, a directory, `bundled`, a well-known name or a hub id")
    for find in SOURCES:
        source = find(spec, revision)
        if source is not None:
            return source
    raise DataError(f"{spec!r} is no file or directory and no known data set; give a path, `bundled`, or owner/name")


def from_path(spec: str, _revision: str | None) -> Source | None:
    """An existing file or directory."""
    path = Path(spec).expanduser()
    if path.is_dir():
        found = local_files(path)
        layout = find_layout(found, str(path))
        notes = (f"files of no split were left out: {', '.join(layout.ignored[:4])}",) if layout.ignored else ()
        return Source(
            str(path),
            {split: _just(tuple(found[name] for name in names)) for split, names in layout.splits.items()},
            notes=notes,
        )
    if path.exists():
        return Source(str(path), {"train": _just((path,))})
    if spec.startswith((".", "/", "~")) or path.suffix.lower() in READERS:
        raise DataError(f"{spec} does not exist; give an existing file or directory, `bundled`, or a hub id")
    return None


def _just(paths: tuple[Path, ...]) -> Callable[[], tuple[Path, ...]]:
    return lambda: paths


SOURCES: tuple[Callable[[str, str | None], Source | None], ...] = (from_path,)


def _check_options(dev_fraction: float, *limits: int | None) -> None:
    if not 0 < dev_fraction < 1:
        raise UsageError(f"the held-out fraction is {dev_fraction}, but must lie between 0 and 1")
    for limit in limits:
        if limit is not None and limit < 1:
            raise UsageError(f"a limit of {limit} rows leaves nothing; give 1 or more")


def _names_beside(table: Table, values: Sequence[Any], chosen: Sequence[int] | None) -> tuple[str, ...] | None:
    """Class names from a ``label_text`` column beside integer labels (as SetFit's sets have it), if consistent."""
    if "label_text" not in table.names or not all(type(value) is int and 0 <= value < 1000 for value in values):
        return None
    pairs = set(zip(values, map(str, table.read("label_text", chosen)), strict=True))
    names = dict(pairs)
    if len(names) != len(pairs) or sorted(names) != list(range(len(names))):
        return None
    return tuple(names[i] for i in range(len(names)))


def _checked_text(text: Any, row: int, column: str, where: str) -> str:
    if not isinstance(text, str):
        raise DataError(
            f"column {column!r} of {where} holds {type(text).__name__} in row {row}, not text; give --text-column"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"row {row} of {where} is not valid Unicode (a lone surrogate); repair or remove it") from None
    return text


def _split_summary(source_split: str, rows: Rows, label_names: Sequence[str]) -> SplitSummary:
    counts = Counter(rows.labels)
    per_class = {name: counts[i] for i, name in enumerate(label_names)}
    return SplitSummary(source_split, len(rows), per_class, rows.fingerprint)
