"""Which data rora read, how it understood them, and what was wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SplitSummary:
    """One split after cleaning. ``source_split`` is its name in the source, or says how rora made it.

    ``fingerprint`` is the sha256 over all texts and labels in order: equal fingerprints mean equal rows.

    Attributes:
        rows: that are left after cleaning.
        per_class: rows of each label.
    """

    source_split: str
    rows: int
    per_class: Mapping[str, int]
    fingerprint: str


@dataclass(frozen=True)
class ShownRow:
    """One row as a causal language model reads it: the text of each token; those from ``start`` on are the answer."""

    tokens: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class DataSummary:
    """How ``spec`` was resolved and read.

    ``origin`` is a path, a hub id (with its commit in ``revision``) or the bundled set's name. ``label_mapping`` maps
    the labels in the data to the model's label names, and ``inputs`` each file to its sha256. Counts are of rows:
    ``duplicate_rows`` repeat an earlier text and were kept; ``shared_rows`` were held out too and were removed from
    train; ``conflicting_rows`` share their text with a row of another label and were kept; ``empty_rows`` (no text) and
    ``unlabelled_rows`` (label -1 or none) were dropped. ``notes`` are sentences for the user.

    Attributes:
        text_column, label_column: names of the columns that were read.
        splits: what was used as train and as held out.
        license: as the source states it.
    """

    spec: str
    origin: str
    text_column: str
    label_column: str
    label_mapping: Mapping[str, str]
    splits: Mapping[str, SplitSummary]
    revision: str | None = None
    license: str | None = None
    duplicate_rows: int = 0
    shared_rows: int = 0
    conflicting_rows: int = 0
    empty_rows: int = 0
    unlabelled_rows: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
