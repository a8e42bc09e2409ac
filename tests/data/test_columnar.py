"""Parquet and Arrow as an attacker writes them: kilobytes for gigabytes, offsets that lead elsewhere, odd types."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rora_cli.data import columnar
from rora_cli.data.columns import KNOWN_COLUMNS
from rora_cli.data.tables import read_table
from rora_cli.errors import DataError
from tests.hostile.sandbox import watch

ROWS = pa.table({"text": [f"film {i % 7}" for i in range(3000)], "label": [i % 2 for i in range(3000)]})


def write_arrow(path: Path, table: pa.Table, form: str = "new_stream", **options: Any) -> Path:
    with pa.OSFile(str(path), "wb") as sink, getattr(pa.ipc, form)(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=100 if options else 1000)
    return path


def write_parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def repeated(text: str, rows: int) -> pa.Table:
    """One text in every row, held once."""
    places = pa.array([0] * rows, pa.int32())
    return pa.table({"text": pa.DictionaryArray.from_arrays(places, pa.array([text])), "label": [0] * rows})


@pytest.mark.parametrize("form", ["parquet", "shared parquet", "new_stream", "new_file", "shared arrow"])
@pytest.mark.parametrize("indices", [None, [], [0, 999, 1000, 2999]])
def test_chosen_rows_are_the_rows(tmp_path: Path, form: str, indices: Sequence[int] | None, monkeypatch: Any) -> None:
    monkeypatch.setattr(columnar, "_BATCH_ROWS", 700)
    table = ROWS.set_column(0, "text", ROWS["text"].dictionary_encode()) if "shared" in form else ROWS
    if "parquet" in form:
        path = write_parquet(tmp_path / "rows.parquet", table)
    else:
        path = write_arrow(tmp_path / "rows.arrow", table, form if form.startswith("new") else "new_stream")
    read = read_table(path, KNOWN_COLUMNS)
    assert (read.rows, read.names) == (3000, ("text", "label"))
    expected = ROWS.to_pydict()
    for name in read.names:
        values = expected[name] if indices is None else [expected[name][i] for i in indices]
        assert read.read(name, indices) == values


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox forks and limits memory")
@pytest.mark.parametrize("form", ["one long text", "plain Parquet", "packed Arrow", "shared Arrow"])
def test_a_small_file_of_many_gigabytes_is_refused(tmp_path: Path, form: str, monkeypatch: Any) -> None:
    """10,000 rows of one text of 1 MB, where 64 MB are allowed; 500 of it where Arrow packs every copy."""
    monkeypatch.setattr(columnar, "MAX_TEXT_BYTES", 64 << 20)
    text = "x" * (1 << 20)
    if form == "packed Arrow":
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        table = pa.table({"text": [text] * 500, "label": [0] * 500})
        path = write_arrow(tmp_path / "rows.arrow", table, options=options)
        limit = "once it is unpacked"
    elif form == "shared Arrow":
        path, limit = write_arrow(tmp_path / "rows.arrow", repeated(text, 10_000)), "more than 64 MiB of text"
    else:
        table = repeated(text, 10_000)
        path = write_parquet(tmp_path / "rows.parquet", table, compression="zstd", store_schema=form != "plain Parquet")
        limit = "more than 64 MiB of text"
    assert path.stat().st_size < 2 << 20

    outcome = watch(lambda: read_table(path, KNOWN_COLUMNS).read("text", None), seconds=60, memory=1 << 30)
    assert outcome.error is not None and outcome.error[0] == "DataError", outcome
    assert limit in outcome.error[1]


def test_more_rows_than_anybody_trains_on_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "MAX_ROWS", 2999)
    for path in (write_parquet(tmp_path / "a.parquet", ROWS), write_arrow(tmp_path / "a.arrow", ROWS)):
        with pytest.raises(DataError, match="at most 2,999 are read"):
            read_table(path, KNOWN_COLUMNS)


@pytest.mark.parametrize("kind", ["string_view", "large_string", "dictionary", "chunked"])
def test_strings_as_every_library_writes_them(tmp_path: Path, kind: str) -> None:
    texts = ["short", "a text that is longer than a view holds inline", None, "x"]
    column = {
        "string_view": lambda: pa.array(texts).cast(pa.string_view()),
        "large_string": lambda: pa.array(texts, pa.large_string()),
        "dictionary": lambda: pa.array(texts).dictionary_encode(),
        "chunked": lambda: pa.chunked_array([texts[:1], texts[1:]]),
    }[kind]()
    path = write_arrow(tmp_path / "rows.arrow", pa.table({"text": column, "label": [0, 1, 0, 1]}))
    table = read_table(path, KNOWN_COLUMNS)
    assert table.read("text", None) == texts
    assert table.read("text", [3, 1]) == [texts[3], texts[1]]


def test_views_are_counted_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = pa.array(["x" * 1000] * 500).cast(pa.string_view())
    path = write_arrow(tmp_path / "rows.arrow", pa.table({"text": shared, "label": [0] * 500}))
    monkeypatch.setattr("rora_cli.data.columnar.MAX_TEXT_BYTES", 400_000)
    with pytest.raises(DataError, match="holds more than"):
        read_table(path, KNOWN_COLUMNS).read("text", None)


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([4], pa.int64()), pa.array(["x"])),
        pa.array([{"a": 1}] * 4),
        pa.array([1, 2, 3, 4], pa.timestamp("s")),
    ],
    ids=lambda column: str(column.type)[:12],
)
def test_types_whose_size_is_not_known_are_refused(tmp_path: Path, column: pa.Array) -> None:
    path = write_arrow(tmp_path / "rows.arrow", pa.table({"text": column, "label": [0, 1, 0, 1]}))
    table = read_table(path, KNOWN_COLUMNS)
    with pytest.raises(DataError, match="is of the type"):
        table.read("text", None)
    assert table.read("label", [1]) == [1]


def test_offsets_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    """The text column's last offset, moved: without a check this reads foreign memory, or ends in a bus error."""
    path = write_arrow(tmp_path / "rows.arrow", ROWS.slice(0, 1000))
    data, last = bytearray(path.read_bytes()), sum(map(len, ROWS["text"][:1000].to_pylist()))
    at = data.rindex(last.to_bytes(4, "little"), 0, data.index(b"film 0film 1"))
    for offset in (1 << 30, -1):
        data[at : at + 4] = offset.to_bytes(4, "little", signed=True)
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"not a valid Arrow file|once it is unpacked"):
            read_table(path, KNOWN_COLUMNS)


def test_texts_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    raw = pa.table({"text": pa.array([b"good", b"caf\xe9"]), "label": [0, 1]})
    broken = raw.set_column(0, "text", pa.Array.from_buffers(pa.string(), 2, raw["text"].chunk(0).buffers()))
    for path in (write_parquet(tmp_path / "a.parquet", broken), write_arrow(tmp_path / "a.arrow", broken)):
        with pytest.raises(DataError, match=r"cannot be read|not a valid"):
            read_table(path, KNOWN_COLUMNS).read("text", None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox forks")
@pytest.mark.parametrize("form", ["parquet", "new_stream", "new_file"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, form: str) -> None:
    """300 seeded damages each, in a process of their own: a crash would be the reader's."""
    ending = "parquet" if form == "parquet" else "arrow"
    path = tmp_path / f"rows.{ending}"
    whole = (
        write_parquet(path, ROWS.slice(0, 60)) if form == "parquet" else write_arrow(path, ROWS.slice(0, 60), form)
    ).read_bytes()

    def read_damaged() -> dict[str, int]:
        rng, seen = random.Random(form), {"read": 0, "refused": 0}
        for number in range(300):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + 4] = rng.choice(
                    (b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4), bytes([rng.randrange(256)]))
                )
            damaged = tmp_path / f"{number}.{ending}"
            damaged.write_bytes(data)
            try:
                table = read_table(damaged, KNOWN_COLUMNS)
                for name in table.names:
                    table.read(name, None)
                seen["read"] += 1
            except DataError:
                seen["refused"] += 1
        return seen

    outcome = watch(read_damaged, seconds=120, memory=2 << 30)
    assert not outcome.signal and outcome.error is None, outcome
    assert outcome.value["refused"] > 20 and sum(outcome.value.values()) == 300
