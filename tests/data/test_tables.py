"""Every file format gives the same columns, and malformed or hostile files give one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
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


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


RECORDS = [("good film", 1), ("bad plot", 0), ("the film, really", 1), ('a "bad" plot', 0)]


def separated(separator: str, header: bytes = b"text,label", end: str = "\n") -> bytes:
    lines = [f'"{text.replace(chr(34), chr(34) * 2)}"{separator}{label}' for text, label in RECORDS]
    return header.replace(b",", separator.encode()) + (end + end.join(lines) + end).encode()


def records(**json_options: Any) -> bytes:
    import pandas as pd

    frame = pd.DataFrame([{"text": text, "label": label} for text, label in RECORDS])
    return str(frame.to_json(**json_options)).encode()


CSV = separated(",")
AS_PEOPLE_HAVE_THEM: dict[str, tuple[str, bytes]] = {
    "semicolons": ("rows.csv", separated(";")),
    "bars": ("rows.csv", separated("|")),
    "tabs in a csv": ("rows.csv", separated("\t")),
    "commas in a tsv": ("rows.tsv", CSV),
    "commas in a txt": ("rows.txt", CSV),
    "old mac line ends in none": ("rows.csv", separated(",", end="\r\n")),
    "separator declared by excel": ("rows.csv", b"sep=;\n" + separated(";")),
    "byte order mark": ("rows.csv", b"\xef\xbb\xbf" + CSV),
    "utf-16": ("rows.csv", CSV.decode().encode("utf-16")),
    "utf-32": ("rows.csv", CSV.decode().encode("utf-32")),
    "gzip": ("rows.csv.gz", gzip.compress(CSV)),
    "gzip without the ending": ("rows.csv", gzip.compress(CSV)),
    "bzip2": ("rows.csv.bz2", bz2.compress(CSV)),
    "xz": ("rows.csv.xz", lzma.compress(CSV)),
    "zip": ("rows.zip", zipped({"data/rows.csv": CSV, "__MACOSX/._rows.csv": b"x"})),
    "zip with both endings": ("rows.csv.zip", zipped({"rows.csv": CSV})),
    "json lines in gzip": ("rows.jsonl.gz", gzip.compress(records(orient="records", lines=True))),
    "empty header cells": ("rows.csv", b"\n".join(line + b",," for line in CSV.splitlines())),
    "fields too many, but empty": ("rows.csv", b"\n".join(
        line + b",," * (i > 0) for i, line in enumerate(CSV.splitlines()))),
    "empty records": ("rows.csv", CSV.replace(b"\n", b"\n,\n")),
    "pandas index": ("rows.csv", b"\n".join(
        (b"%d," % i if i else b",") + line for i, line in enumerate(CSV.splitlines()))),
    "label first": ("rows.csv", b"label,text\n" + b"".join(
        b'%d,"%s"\n' % (label, text.replace('"', '""').encode()) for text, label in RECORDS)),
    "no header": ("rows.csv", separated(",").split(b"\n", 1)[1]),
    "no header, label first": ("rows.tsv", b"".join(b"%d\t%s\n" % (y, x.encode()) for x, y in RECORDS)),
    "pandas columns": ("rows.json", records()),
    "pandas index orient": ("rows.json", records(orient="index")),
    "pandas records": ("rows.json", records(orient="records", indent=1)),
    "pandas split": ("rows.json", records(orient="split")),
    "pandas table": ("rows.json", records(orient="table")),
    "pandas values": ("rows.json", records(orient="values")),
    "lists a line": ("rows.jsonl", b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)),
    "an array named jsonl": ("rows.jsonl", records(orient="records", indent=1)),
    "one list under another name": ("rows.json", b'{"version": "1", "examples": ' + records(orient="records") + b"}"),
    "the hub's viewer": ("rows.json", json.dumps(
        {"features": [{"name": "text"}], "rows": [
            {"row_idx": i, "row": {"text": x, "label": y}} for i, (x, y) in enumerate(RECORDS)]}).encode()),
}  # fmt: skip


@pytest.mark.parametrize("form", AS_PEOPLE_HAVE_THEM)
def test_files_as_people_have_them(tmp_path: Path, form: str) -> None:
    name, content = AS_PEOPLE_HAVE_THEM[form]
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name, KNOWN_COLUMNS)
    assert {"text", "label"} <= set(table.names)
    assert table.read("text", None) == [text for text, _ in RECORDS]
    assert [int(label) for label in table.read("label", None)] == [label for _, label in RECORDS]
    assert table.has_header == (form not in ("no header", "no header, label first", "pandas values", "lists a line"))


def test_names_that_are_not_known_are_no_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("remark,grade\ngood film,1\nbad plot,0\na film,1\n")
    assert read_table(tmp_path / "rows.csv", KNOWN_COLUMNS).names == ("remark", "grade")
    (tmp_path / "rows.csv").write_text("fine,pos\ngood film,pos\nbad plot,neg\na film,pos\n")
    assert read_table(tmp_path / "rows.csv", KNOWN_COLUMNS).read("text", [0]) == ["fine"]


def test_labels_that_are_words_are_told_from_texts(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("positive\tgood film\nnegative\tbad plot\npositive\tthe film\n")
    table = read_table(tmp_path / "rows.tsv", KNOWN_COLUMNS)
    assert (table.names, table.has_header) == (("label", "text"), False)
    assert table.read("label", None) == ["positive", "negative", "positive"]


def test_what_is_packed_is_unpacked_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rora_cli.data.textfile.MAX_TEXT_BYTES", 10_000)
    for name, content in (
        ("rows.csv.gz", gzip.compress(b"text,label\n" * 9_999)),
        ("rows.zip", zipped({"rows.csv": b"text,label\n" * 9_999})),
        ("rows.csv.xz", lzma.compress(b"text,label\n" * 9_999)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="unpacks to more than"):
            read_table(tmp_path / name, KNOWN_COLUMNS)


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
    "utf-16 without a mark": ("rows.csv", "text,label\nä,1\n".encode("utf-16-be"), "not UTF-8"),
    "utf-16 of plain letters": ("rows.csv", "text,label\na,1\n".encode("utf-16-le"), "UTF-16 without a byte order"),
    "gzip cut off": ("rows.csv.gz", gzip.compress(b"text,label\na,1\n" * 99)[:40], "cannot be unpacked"),
    "zip of two": ("rows.zip", zipped({"a.csv": b"text,label\na,1\n", "b.csv": b"x"}), "holds 2 files"),
    "zip of no data": ("rows.zip", zipped({"a.exe": b"MZ"}), "holds no data file"),
    "zip cut off": ("rows.zip", zipped({"a.csv": b"text,label\na,1\n"})[:40], "cannot be unpacked"),
    "workbook": ("rows.xlsx", zipped({"[Content_Types].xml": b""}), "is a spreadsheet.*save the sheet as CSV"),
    "workbook as csv": ("rows.csv", zipped({"[Content_Types].xml": b"", "xl/a.xml": b""}), "is a spreadsheet"),
    "parquet as csv": ("rows.csv", b"PAR1 \x00\xff", "is a Parquet file; give it the ending"),
    "web page": ("rows.csv", b"<!DOCTYPE html>\n<html>", "is a web page"),
    "git lfs pointer": ("rows.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "three columns without a header": ("rows.csv", b"1,good,yes\n2,bad,no\n", "first line of .* names no columns"),
    "lists of several splits": (
        "rows.json",
        b'{"train": [{"text": "a", "label": 1}], "test": [{"text": "b", "label": 0}]}',
        "several lists of rows .'train', 'test'",
    ),
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
    monkeypatch.setattr("rora_cli.data.textfile.MAX_TEXT_BYTES", 10)
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
