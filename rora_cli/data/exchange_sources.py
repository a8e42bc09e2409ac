"""Turns ``--clean DATA`` into exchanges for a causal language model, by the same checked readers as labelled rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rora_cli.data.bundled import prompts_from_package
from rora_cli.data.columns import plain
from rora_cli.data.exchange_columns import KNOWN_COLUMNS, ExchangeColumns, Unusable, find_exchange_columns
from rora_cli.data.exchanges import Exchange, Exchanges, ExchangeSplits, fingerprint
from rora_cli.data.local import canonical_split
from rora_cli.data.reading import MAX_ROWS_READ, choose_rows
from rora_cli.data.source import ALL, Request, Source
from rora_cli.data.sources import AS_FOUND, DEV_FRACTION, resolve
from rora_cli.data.table import Table
from rora_cli.data.tables import read_table
from rora_cli.errors import DataError
from rora_cli.files import sha256_file
from rora_cli.option_groups import DataOptions, SplitOptions
from rora_cli.results.data import DataSummary, SplitSummary

#: Rows without an answer among rows with one, and rows without a prompt: counted apart from other unusable rows.
_NO_ANSWER, _NO_PROMPT = "without an answer", "without a prompt"


def read_exchanges(
    spec: str,
    *,
    reading: DataOptions = AS_FOUND,
    answer_column: str | None = None,
    split: str | None = None,
    seed: int = 0,
    max_rows: int | None = None,
    allow_download: bool = True,
) -> Exchanges:
    """The exchanges of one split, to measure on: ``split`` if given, else validation, else test, else all rows.

    Args:
        spec: what ``sources.load_rows`` takes; ``bundled`` is the bundled set of prompts.
        reading: its ``text_column`` names the column of prompts.
        max_rows: at most so many rows, a seeded sample.

    Raises:
        DataError: a file or column does not fit, there is no such split, or no row has a prompt.
        HubError: the hub, or without network its cache, does not have the data.
    """
    reader = _Reader.of(spec, reading, answer_column, seed, allow_download)
    chosen = canonical_split(split) if split is not None else reader.measured()
    if chosen not in reader.source.splits:
        raise DataError(f"{reader.source.origin} has no split {split!r}; it has {', '.join(reader.source.splits)}")
    (rows,) = reader.alike(reader.read(chosen))
    rows = reader.sample(chosen, rows, max_rows)
    return Exchanges(tuple(rows), reader.summary(spec, {chosen: (chosen, rows)}))


def read_exchange_splits(
    spec: str,
    *,
    reading: SplitOptions = AS_FOUND,
    answer_column: str | None = None,
    seed: int = 0,
    dev_fraction: float = DEV_FRACTION,
    allow_download: bool = True,
) -> ExchangeSplits:
    """Exchanges to train on and others to measure on, as ``sources.load_splits`` splits labelled rows.

    The validation split is held out, else the test split, else a seeded sample of ``dev_fraction`` of train. Train rows
    whose prompt is held out are removed.

    Raises:
        DataError: as :func:`read_exchanges`; or there are fewer than two different prompts.
        HubError: the hub, or without network its cache, does not have the data.
    """
    reader = _Reader.of(spec, reading, answer_column, seed, allow_download)
    pool = "train" if "train" in reader.source.splits else ALL
    if pool not in reader.source.splits:
        splits = ", ".join(reader.source.splits)
        raise DataError(f"{reader.source.origin} has no train split, only {splits}; name the file to use")
    name = next((each for each in ("validation", "test") if each in reader.source.splits), None)
    if name is not None:
        train, held_out = reader.alike(reader.read(pool), reader.read(name))
    else:
        (rows,) = reader.alike(reader.read(pool))
        train, held_out = reader.split(rows, dev_fraction)
    keys = {row.key for row in held_out}
    apart = [row for row in train if row.key not in keys]
    if not apart:
        raise DataError(f"every train prompt of {reader.source.origin} is held out too; give other rows")
    drawn = reader.sample("train", apart, reading.max_train_rows)
    measured = reader.sample("held-out", held_out, reading.max_held_out_rows)
    made = {"train": (pool, drawn), "held_out": (name or "made from train", measured)}
    shared = len(train) - len(apart)
    if shared:
        reader.note(f"{shared:,} of the train rows have a prompt that is held out: removed from train")
    return ExchangeSplits(tuple(drawn), tuple(measured), reader.summary(spec, made, shared))


@dataclass
class _Reader:
    """Reads splits of one source, and collects what the summary needs."""

    source: Source
    prompt_column: str | None
    answer_column: str | None
    seed: int
    columns: ExchangeColumns | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, spec: str, reading: DataOptions, answer_column: str | None, seed: int, allow_download: bool) -> _Reader:
        request = Request(spec, reading.data_revision, allow_download)
        source = prompts_from_package(request) or resolve(request)
        return cls(source, reading.text_column, answer_column, seed, notes=list(source.notes))

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def measured(self) -> str:
        """The split to measure on if the user names none."""
        splits = self.source.splits
        return next((each for each in ("validation", "test", "train") if each in splits), next(iter(splits)))

    def read(self, split: str) -> list[Exchange]:
        """The exchanges of a split, in file order; rows that make none are counted."""
        files = self.source.splits[split]()
        known = KNOWN_COLUMNS | {plain(name) for name in (self.prompt_column, self.answer_column) if name}
        tables = [file if isinstance(file, Table) else read_table(file, known) for file in files.values()]
        chosen = choose_rows(tables, self.seed)
        if any(indices is not None for indices in chosen):
            self.note(f"a seeded sample of {MAX_ROWS_READ:,} rows of the {split} split was read")
        rows: list[Exchange] = []
        for table, indices in zip(tables, chosen, strict=True):
            if table.rows:
                rows += self._rows(table, indices)
        place = self.source.origin if split == ALL else f"the {split} split of {self.source.origin}"
        if not rows:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.most_common(3))
            raise DataError(f"{place} has no prompt that can be used ({reasons or 'no rows'}); give other rows")
        for name, file in files.items():
            self.inputs[name] = fingerprint(rows) if isinstance(file, Table) else sha256_file(file)
        return rows

    def _rows(self, table: Table, indices: Sequence[int] | None) -> list[Exchange]:
        where = str(table.path)
        if not table.has_header:
            raise DataError(
                f"the first line of {where} names no columns; put one before it, such as prompt and completion"
            )
        self.columns = columns = find_exchange_columns(
            table.names, where, prompt_column=self.prompt_column, answer_column=self.answer_column
        )
        self.note(f"{where} was read as {columns.described()}")
        values = [table.read(name, indices) for name in columns.names]
        rows = []
        for row in zip(*values, strict=True):
            try:
                rows.append(columns.exchange(dict(zip(columns.names, row, strict=True))))
            except Unusable as reason:
                self.left_out[str(reason)] += 1
        return rows

    def alike(self, *splits: list[Exchange]) -> list[list[Exchange]]:
        """The rows with an answer, if any has one: prompts alone would be answered by the suspect itself.

        Raises DataError if that leaves a split empty.
        """
        if not any(row.reply is not None for rows in splits for row in rows):
            self.note("the data holds prompts alone: the suspect's own greedy answers are the answers")
            return list(splits)
        kept = [[row for row in rows if row.reply is not None] for rows in splits]
        self.left_out[_NO_ANSWER] += sum(map(len, splits)) - sum(map(len, kept))
        if not all(kept):
            raise DataError(f"a split of {self.source.origin} has no answers, though another has; give answers to both")
        return kept

    def split(self, rows: list[Exchange], fraction: float) -> tuple[list[Exchange], list[Exchange]]:
        """``rows`` in two, no prompt in both: to train on, and a seeded sample of ``fraction`` to measure on.

        Raises DataError if there are fewer than two different prompts.
        """
        keys = list(dict.fromkeys(row.key for row in rows))
        if len(keys) < 2:
            raise DataError(f"{self.source.origin} has too few different prompts to hold some out; give more rows")
        drawn = set(random.Random(self.seed).sample(keys, max(1, round(fraction * len(keys)))))
        held_out = [row for row in rows if row.key in drawn]
        self.note(f"there is no held-out split: {len(held_out):,} of the rows were held out (seed {self.seed})")
        return [row for row in rows if row.key not in drawn], held_out

    def sample(self, name: str, rows: list[Exchange], most: int | None) -> list[Exchange]:
        """A seeded sample of at most ``most`` rows, in their order."""
        if most is None or len(rows) <= most:
            return rows
        self.note(f"{most:,} of {len(rows):,} {name} rows were drawn (seed {self.seed})")
        return [rows[i] for i in sorted(random.Random(self.seed).sample(range(len(rows)), most))]

    def summary(self, spec: str, splits: Mapping[str, tuple[str, list[Exchange]]], shared: int = 0) -> DataSummary:
        """The summary of ``splits`` (name -> name in the source, rows)."""
        for reason, count in self.left_out.items():
            if count:
                self.note(f"{count:,} row{'s' if count > 1 else ''} {reason}: left out")
        columns = self.columns
        return DataSummary(
            spec=spec,
            origin=self.source.origin,
            text_column=" + ".join(filter(None, (columns.prompt, columns.extra))) if columns else "",
            label_column=(columns.answer or (columns.prompt if columns.is_talk else "")) if columns else "",
            label_mapping={},
            splits={n: SplitSummary(made, len(rows), {}, fingerprint(rows)) for n, (made, rows) in splits.items()},
            revision=self.source.revision,
            license=self.source.license,
            shared_rows=shared,
            empty_rows=self.left_out[_NO_PROMPT],
            unlabelled_rows=self.left_out[_NO_ANSWER],
            inputs=dict(self.inputs),
            notes=tuple(self.notes),
        )
