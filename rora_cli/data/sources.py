"""Turns ``--clean DATA`` into rows: resolves the name, reads the data, and keeps train and held-out rows apart.

``SOURCES`` lists functions that turn a request into a :class:`Source` or None. The first that knows the name wins, so
an existing local path takes precedence over every other name. Everything else is the same for all sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rora_cli.data import splitting
from rora_cli.data.bundled import from_package
from rora_cli.data.catalogue import WELL_KNOWN
from rora_cli.data.columns import NoLabelsError
from rora_cli.data.hub import from_hub
from rora_cli.data.local import canonical_split, find_layout, local_files
from rora_cli.data.memory import from_memory
from rora_cli.data.reading import Reader
from rora_cli.data.rows import Rows, Splits
from rora_cli.data.source import ALL, Request, Source, at_hand
from rora_cli.data.tables import READERS
from rora_cli.data.textfile import inner_suffix, is_packed
from rora_cli.errors import DataError, UsageError
from rora_cli.option_groups import DataOptions, SplitOptions
from rora_cli.results.data import DataSummary

#: Rows that are held out [fraction of train], if a source has no held-out split.
DEV_FRACTION = 0.2

#: Columns and labels by convention, and all rows.
AS_FOUND = SplitOptions()

_MADE_FROM_TRAIN = "made from train"


def load_splits(
    spec: str,
    *,
    label_names: Sequence[str],
    reading: SplitOptions = AS_FOUND,
    seed: int = 0,
    dev_fraction: float = DEV_FRACTION,
    allow_download: bool = True,
) -> Splits:
    """Rows to train on and disjoint rows to measure on.

    The validation split is held out, else the test split, else a seeded, stratified sample of ``dev_fraction`` of
    train. Train rows whose text is held out are removed. Limits on rows draw seeded, stratified samples.

    Args:
        spec: local file or directory, ``bundled``, a well-known name, a hub id with an optional ``:config``, or what
            ``memory.named`` made of rows in memory.
        label_names: the model's label names, by id.
        reading: columns, label map, revision of a hub data set, and how many rows of each split are drawn.
        allow_download: without it (or under HF_HUB_OFFLINE), only the hub's cache is used.

    Raises:
        DataError: a file, column or label does not fit, or there are no usable rows.
        HubError: the hub, or without network its cache, does not have the data.
        UsageError: a fraction or limit is out of range.
    """
    if not 0 < dev_fraction < 1:
        raise UsageError(f"the held-out fraction is {dev_fraction}, but must lie between 0 and 1")
    reader = _reader(spec, label_names, reading, seed, allow_download)
    source = reader.source
    pool = "train" if "train" in source.splits else ALL
    if pool not in source.splits:
        raise DataError(f"{source.origin} has no train split, only {', '.join(source.splits)}; name the file to use")
    train = reader.read(pool)
    held_out_split, held_out = _read_held_out(reader)
    repeats = splitting.count_repeats(train)
    if held_out is None:
        train, held_out = splitting.split_held_out(train, dev_fraction, seed, source.origin)
        reader.note(f"there is no held-out split: {len(held_out):,} of the train rows were held out (seed {seed})")
        shared = 0
    else:
        repeats += splitting.count_repeats(held_out)
        train, shared = splitting.remove_shared(train, held_out)
        if not len(train):
            raise DataError(f"every train row of {source.origin} is in its {held_out_split} split too; give other rows")
    train = _sample(reader, "train", train, reading.max_train_rows)
    held_out = _sample(reader, "held-out", held_out, reading.max_held_out_rows)
    summary = reader.summary(
        spec,
        {"train": (pool, train), "held_out": (held_out_split, held_out)},
        duplicate_rows=repeats.duplicate,
        conflicting_rows=repeats.conflicting,
        shared_rows=shared,
    )
    return Splits(train, held_out, summary)


def load_rows(
    spec: str,
    *,
    label_names: Sequence[str],
    reading: DataOptions = AS_FOUND,
    split: str | None = None,
    seed: int = 0,
    max_rows: int | None = None,
    allow_download: bool = True,
) -> tuple[Rows, DataSummary]:
    """The rows of one split, to measure on: ``split`` if given, else validation, else test, else all rows.

    The summary holds this split under its name. Other arguments are those of :func:`load_splits`. Raises DataError if
    the source has no such split, and the errors of :func:`load_splits`.
    """
    if max_rows is not None and max_rows < 1:
        raise UsageError(f"a limit of {max_rows} rows leaves nothing; give 1 or more")
    reader = _reader(spec, label_names, reading, seed, allow_download)
    source = reader.source
    if split is not None:
        chosen = canonical_split(split)
        if chosen not in source.splits:
            raise DataError(f"{source.origin} has no split {split!r}; it has {', '.join(source.splits)}")
        rows = reader.read(chosen)
    else:
        chosen, held_out = _read_held_out(reader)
        if held_out is None:
            chosen = "train" if "train" in source.splits else next(iter(source.splits))
            held_out = reader.read(chosen)
        rows = held_out
    repeats = splitting.count_repeats(rows)
    rows = _sample(reader, chosen, rows, max_rows)
    summary = reader.summary(
        spec, {chosen: (chosen, rows)}, duplicate_rows=repeats.duplicate, conflicting_rows=repeats.conflicting
    )
    return rows, summary


def resolve(request: Request) -> Source:
    """Find the data set that ``request`` names, without reading its rows.

    Raises:
        DataError: no source knows the name; the message lists the possible forms.
        HubError: the hub did not answer.
    """
    if not request.spec.strip():
        raise DataError("the data has no name; give a file, a directory, `bundled`, a well-known name or a hub id")
    for find in SOURCES:
        source = find(request)
        if source is not None:
            return source
    raise DataError(
        f"{request.spec!r} is no file or directory and no known data set; give a path, `bundled`, a hub id of the form "
        f"owner/name or owner/name:config, or one of {', '.join(sorted(WELL_KNOWN))}"
    )


def from_path(request: Request) -> Source | None:
    """The data in an existing file or directory; None if there is none of this name.

    Raises DataError if the request asks for a revision, or if its name can only be that of a missing path.
    """
    spec = request.spec
    path = Path(spec).expanduser()
    if path.exists() and request.revision is not None:
        raise DataError(f"{spec} is a local path and has no revisions; leave the revision out")
    if path.is_dir():
        found = local_files(path)
        layout = find_layout(found, str(path))
        notes = (f"files of no split were left out: {', '.join(layout.ignored[:4])}",) if layout.ignored else ()
        splits = {split: at_hand({name: found[name] for name in names}) for split, names in layout.splits.items()}
        return Source(str(path), splits, notes=notes)
    if path.exists():
        return Source(str(path), {ALL: at_hand({path.name: path})})
    require_path(spec)
    return None


def require_path(spec: str) -> None:
    """Raise DataError where ``spec`` can only be the name of a path, and nothing is there."""
    if Path(spec).expanduser().exists():
        return
    if spec.startswith((".", "/", "~")) or inner_suffix(spec) in READERS or is_packed(spec):
        raise DataError(f"{spec} does not exist; give an existing file or directory, `bundled`, or a hub id")


SOURCES: tuple[Callable[[Request], Source | None], ...] = (from_memory, from_path, from_package, from_hub)


def _reader(spec: str, label_names: Sequence[str], reading: DataOptions, seed: int, allow_download: bool) -> Reader:
    source = resolve(Request(spec, reading.data_revision, allow_download))
    return Reader(source, label_names, reading.text_column, reading.label_column, reading.label_map, seed)


def _read_held_out(reader: Reader) -> tuple[str, Rows | None]:
    """The name and the rows of the validation split, else of the test split, whichever has labels; or None."""
    for split in ("validation", "test"):
        if split in reader.source.splits:
            try:
                return split, reader.read(split)
            except NoLabelsError:
                reader.note(f"the {split} split has no labels and was not used")
    return _MADE_FROM_TRAIN, None


def _sample(reader: Reader, name: str, rows: Rows, most: int | None) -> Rows:
    drawn = splitting.sample(rows, most, reader.seed)
    if len(drawn) < len(rows):
        reader.note(f"{len(drawn):,} of {len(rows):,} {name} rows were drawn (seed {reader.seed})")
    return drawn
