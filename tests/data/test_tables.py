"""Every file format gives the same columns, and malformed or hostile files give one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rora_cli.data.columns import KNOWN_COLUMNS
from rora_cli.data.tables import READERS, read_table
from rora_cli.errors import DataError

TEXTS = [
    "plain",
    'say "hello", she said',
    "two\nlines",
    "tab\there",
    "NEL\x85in it",
    "line\u2028separator",
    "  spaces  ",
    "é 漢 🎬",
]
LABELS = [0, 1, 0, 1, 0, 1, 0, 1]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")


def write_pandas(path: Path, separator: str) -> None:
    import pandas as pd

    pd.DataFrame(ROWS).to_csv(path, sep=separator, index=False)


def write_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": TEXTS, "label": LABELS}), path)


def write_arrow(path: Path, opener: str) -> None:
    import pyarrow as pa

    table = pa.table({"text": TEXTS, "label": LABELS})
    with pa.OSFile(str(path), "wb") as sink, getattr(pa.ipc, opener)(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "jsonl": ("rows.jsonl", write_jsonl),
    "json lines named json": ("rows.json", write_jsonl),
    "json array": ("rows.json", lambda path: path.write_text(json.dumps(ROWS, indent=1)) and None),
    "json data": ("rows.json", lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS})) and None),
    "json columns": ("rows.json", lambda path: path.write_text(json.dumps({"text": TEXTS, "label": LABELS})) and None),
    "csv": ("rows.csv", lambda path: write_pandas(path, ",")),
    "tsv": ("rows.tsv", lambda path: write_pandas(path, "\t")),
    "parquet": ("rows.parquet", write_parquet),
    "arrow stream": ("rows.arrow", lambda path: write_arrow(path, "new_stream")),
    "arrow file": ("rows.arrow", lambda path: write_arrow(path, "new_file")),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_columns(tmp_path: Path, form: str) -> None:
    name, write = WRITERS[form]
    write(tmp_path / name)
    table = read_table(tmp_path / name, KNOWN_COLUMNS)
    assert (table.names, table.rows) == (("text", "label"), len(ROWS))
    assert table.read("text", None) == TEXTS
    assert [int(label) for label in table.read("label", None)] == LABELS
    assert table.read("text", [5, 1]) == [TEXTS[5], TEXTS[1]]


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"\xef\xbb\xbfsentence\tlabel\r\nfine\t1\r\n\r\nbad\t0\r\n")
    table = read_table(path, KNOWN_COLUMNS)
    assert table.names == ("sentence", "label")
    assert table.read("sentence", None) == ["fine", "bad"]
    assert table.read("label", None) == ["1", "0"]


def test_long_field(tmp_path: Path) -> None:
    """csv's own limit is 128 KiB, and it is global: it stays as it was."""
    import csv

    before = csv.field_size_limit()
    for name, separator in (("rows.csv", ","), ("rows.tsv", "\t")):
        (tmp_path / name).write_text(f'text{separator}label\n"{"x" * 200_000}""y"{separator}1\n')
        assert len(read_table(tmp_path / name, KNOWN_COLUMNS).read("text", None)[0]) == 200_002
    assert csv.field_size_limit() == before


def test_two_columns_without_header(tmp_path: Path) -> None:
    """The UCI form: bare quotes, and U+0085 inside a sentence, which str.splitlines would cut there."""
    path = tmp_path / "rows.txt"
    path.write_text(
        '"unbalanced quote\t0\nThe script is\x85was there a script?  \t0\n"Fine" it is\t1\n', encoding="utf-8"
    )
    table = read_table(path, KNOWN_COLUMNS)
    assert table.names == ("text", "label")
    assert table.read("text", None) == ['"unbalanced quote', "The script is\x85was there a script?  ", '"Fine" it is']
    assert table.read("label", None) == ["0", "0", "1"]


def test_class_names_come_from_the_schema(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    data.to_parquet(tmp_path / "rows.parquet")
    assert read_table(tmp_path / "rows.parquet", KNOWN_COLUMNS).class_names == {"label": ("no", "yes")}
    data.save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    table = read_table(arrow, KNOWN_COLUMNS)
    assert table.class_names == {"label": ("no", "yes")}
    assert table.read("label", None) == [1, 0]


@pytest.mark.parametrize("metadata", [b"", b"[]", b"{", b'{"info": 3}', b"[" * 100_000, b'{"info": {"features": [1]}}'])
def test_odd_schema_metadata_is_ignored(tmp_path: Path, metadata: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": ["a"], "label": [0]}).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read_table(tmp_path / "rows.parquet", KNOWN_COLUMNS).class_names == {}


MALFORMED: dict[str, tuple[str, bytes, str]] = {
    "pickle": ("rows.pkl", b"\x80\x04.", "not in a format that is read as data"),
    "script": ("rows.py", b"print(1)", "not in a format that is read as data"),
    "latin-1": ("rows.csv", "text,label\ncaf\xe9,1\n".encode("latin-1"), r"not UTF-8 \(byte 14\)"),
    "utf-16": ("rows.csv", "text,label\na,1\n".encode("utf-16"), "not UTF-8"),
    "json syntax": ("rows.jsonl", b'{"text": "a", "label": 0}\n{"text": \n', "line 2 of .* is not valid JSON"),
    "json of numbers": ("rows.jsonl", b"1\n2\n", "row 1 of .* is not a JSON object"),
    "json nested": ("rows.json", b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
    "json nested line": ("rows.jsonl", b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    "json huge number": ("rows.jsonl", b'{"text": "a", "label": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "json ragged columns": ("rows.json", b'{"text": ["a", "b"], "label": [0]}', "differ in length"),
    "csv open quote": ("rows.csv", b'text,label\n"never closed,1\n', "not valid CSV"),
    "csv ragged": ("rows.csv", b"text,label\na,b,1\n", "record 2 of .* has 3 fields instead of 2"),
    "csv doubled column": ("rows.csv", b"text,text\na,1\n", "names a column twice"),
    "csv with nul": ("rows.csv", b"text,label\na\0b,1\n", "line contains NUL|^$"),
    "parquet garbage": ("rows.parquet", b"PAR1 not parquet PAR1", "not a valid Parquet file"),
    "parquet empty": ("rows.parquet", b"", "not a valid Parquet file"),
    "arrow garbage": ("rows.arrow", b"\xff\xff\xff\xff" + b"\x7f" * 64, "not a valid Arrow file"),
    "arrow empty": ("rows.arrow", b"", "not a valid Arrow file"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    name, content, pattern = MALFORMED[case]
    (tmp_path / name).write_bytes(content)
    if case == "csv with nul":  # read as it is from Python 3.11 on, an error before
        try:
            read_table(tmp_path / name, KNOWN_COLUMNS)
        except DataError as error:
            assert "not valid CSV" in str(error)
        return
    with pytest.raises(DataError, match=pattern) as caught:
        read_table(tmp_path / name, KNOWN_COLUMNS)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_parquet_and_arrow(tmp_path: Path) -> None:
    for form in ("parquet", "arrow stream", "arrow file"):
        name, write = WRITERS[form]
        write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="not a valid"):
            read_table(tmp_path / name, KNOWN_COLUMNS)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")  # opening it for reading would wait for ever
    with pytest.raises(DataError, match="not a regular file"):
        read_table(tmp_path / "rows.jsonl", KNOWN_COLUMNS)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        read_table(path, KNOWN_COLUMNS)


def test_text_formats_have_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rora_cli.data.tables.MAX_TEXT_BYTES", 10)
    (tmp_path / "rows.csv").write_text("text,label\na,1\n")
    with pytest.raises(DataError, match="convert it to Parquet"):
        read_table(tmp_path / "rows.csv", KNOWN_COLUMNS)


@pytest.mark.parametrize("suffix", sorted(READERS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400) | st.text(alphabet='{}[]",:\t\r\nab01\\', max_size=200).map(str.encode))
def test_any_bytes_give_a_table_or_a_data_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    try:
        table = read_table(path, KNOWN_COLUMNS)
        columns: list[list[Any]] = [table.read(name, None) for name in table.names]
    except DataError:
        return
    assert all(len(column) == table.rows for column in columns)


def test_rows_without_a_common_column_take_no_more_than_they_hold(tmp_path: Path) -> None:
    """20,000 rows with 20 columns of their own each: whoever fills in the blanks holds 8,000,000,000 values."""
    rows = [{f"c{i}-{j}": 0 for j in range(20)} | {"text": f"t{i}", "label": i % 2} for i in range(20_000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = read_table(tmp_path / "rows.jsonl", KNOWN_COLUMNS)
    assert table.read("text", [0, 19_999]) == ["t0", "t19999"] and len(table.names) == 400_002
    assert table.read("c7-3", [6, 7, 8]) == [None, 0, None]
