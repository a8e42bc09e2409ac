"""Reads Parquet and Arrow files into columns, within limits: a few kilobytes can unpack to any number of gigabytes.

Both formats compress and share one copy of a text between rows. Arrow also trusts the offsets in a file: one that
points past its buffer reads foreign memory. So rora validates offsets, and counts bytes before it makes Python objects.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rora_cli.data.table import Table
from rora_cli.data.textfile import MAX_TEXT_BYTES
from rora_cli.errors import DataError

MAX_ROWS = 100_000_000
#: Largest size of Arrow's buffers [sizes of the file], beyond some free bytes; ``datasets`` does not compress at all.
_MAX_EXPANSION, _FREE_BYTES = 100, 64 << 20
_BATCH_ROWS = 16_384


def parquet(path: Path) -> Table:
    """The table in a Parquet file; reading a column decodes it batch by batch. Raises DataError as ``read_table``."""
    import pyarrow.parquet as pq

    with _one_sentence(path, "is not a valid Parquet file"):
        source = pq.ParquetFile(path)
        schema, rows = source.schema_arrow, source.metadata.num_rows
        names = tuple(schema.names)
    _require_few_rows(path, rows)

    def read(name: str, indices: Sequence[int] | None) -> list[Any]:
        with _one_sentence(path, f"has a column {name!r} that cannot be read"):
            field = schema.field(name)
            # In dictionary form, equal texts stay one text until their bytes are counted.
            shared = [name] if str(field.type) in ("string", "large_string") else []
            values = _Values(path, name)
            start = 0
            for batch in pq.ParquetFile(path, read_dictionary=shared).iter_batches(_BATCH_ROWS, columns=[name]):
                end = start + batch.num_rows
                if indices is None:
                    values.add(batch.column(name))
                else:
                    chosen = indices[bisect_left(indices, start) : bisect_left(indices, end)]
                    values.add(batch.column(name), [i - start for i in chosen])
                start = end
            return values.taken

    return Table(path, names, rows, read, class_names(schema.metadata))


def arrow(path: Path) -> Table:
    """The table in an Arrow IPC file, in stream form (``save_to_disk`` writes it) or file form."""
    import pyarrow as pa

    with _one_sentence(path, "is not a valid Arrow file"):
        with pa.memory_map(str(path)) as source:
            try:
                reader = pa.ipc.open_stream(source)
                batches, schema = iter(reader), reader.schema
            except pa.ArrowInvalid:
                source.seek(0)
                file = pa.ipc.open_file(source)
                batches, schema = (file.get_batch(i) for i in range(file.num_record_batches)), file.schema
            table = pa.Table.from_batches(list(_bounded(path, batches)), schema)
        table.validate(full=True)
        names = tuple(table.column_names)

    def read(name: str, indices: Sequence[int] | None) -> list[Any]:
        with _one_sentence(path, f"has a column {name!r} that cannot be read"):
            column = table.column(name)
            if _is_view(column.type):
                column = pa.chunked_array([_unviewed(chunk, path, name) for chunk in column.chunks] or [[]])
            if indices is not None:
                column = column.take(pa.array(indices, pa.int64()))
            values = _Values(path, name)
            for chunk in column.chunks:
                values.add(chunk)
            return values.taken

    return Table(path, names, table.num_rows, read, class_names(schema.metadata))


class _Values:
    """Collects Python values of one column, up to a number of bytes."""

    def __init__(self, path: Path, name: str) -> None:
        self.taken: list[Any] = []
        self._path, self._name, self._bytes = path, name, 0

    def add(self, column: Any, indices: Sequence[int] | None = None) -> None:
        import pyarrow as pa

        if _is_view(column.type):
            column = _unviewed(column, self._path, self._name)
        if indices is not None:
            column = column.take(pa.array(indices, pa.int64()))
        _require_plain(column.type, self._path, self._name)
        self._bytes += _decoded_bytes(column)
        _require_little(self._bytes, self._path, self._name)
        self.taken += column.to_pylist()


def _require_plain(kind: Any, path: Path, name: str) -> None:
    """Refuse other types than those whose size the buffers tell, or whose shared texts are counted."""
    import pyarrow.types as types

    if not _is_plain(kind.value_type if types.is_dictionary(kind) else kind):
        raise DataError(
            f"column {name!r} of {path} is of the type {str(kind)[:80]}; give texts, labels and messages in plain types"
        )


def _is_plain(kind: Any) -> bool:
    """Whether each value has bytes of its own: texts, numbers, lists of such, and structs (messages) in lists."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        inner = kind.value_type
        return all(_is_plain(field.type) for field in inner) if types.is_struct(inner) else _is_plain(inner)
    tests = (
        types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_integer,
        types.is_floating, types.is_boolean, types.is_null,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _is_view(kind: Any) -> bool:
    return str(kind) in ("string_view", "binary_view")


def _unviewed(column: Any, path: Path, name: str) -> Any:
    """Turn an array of views (Polars writes them) into plain values; any number of views may share one text."""
    import numpy as np
    import pyarrow as pa

    # A view is 16 bytes and begins with its length.
    views = np.frombuffer(column.buffers()[1], np.int32).reshape(-1, 4)[column.offset : column.offset + len(column)]
    _require_little(int(views[:, 0].clip(0).sum(dtype=np.int64)), path, name)
    return column.cast(pa.large_string() if str(column.type) == "string_view" else pa.large_binary())


def _require_little(size: int, path: Path, name: str) -> None:
    if size > MAX_TEXT_BYTES:
        raise DataError(
            f"column {name!r} of {path} holds more than {MAX_TEXT_BYTES >> 20} MiB of text; give fewer or shorter rows"
        )


def _decoded_bytes(column: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    if not pa.types.is_string(column.type.value_type) and not pa.types.is_large_string(column.type.value_type):
        return 8 * len(column)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)


def _bounded(path: Path, batches: Iterator[Any]) -> Iterator[Any]:
    limit = _FREE_BYTES + _MAX_EXPANSION * path.stat().st_size
    size = rows = 0
    for batch in batches:
        rows += batch.num_rows
        _require_few_rows(path, rows)
        # Of views, pyarrow before 24 knows only the size of whole buffers.
        size += sum(c.get_total_buffer_size() if _is_view(c.type) else c.nbytes for c in batch.columns)
        if size > limit:
            raise DataError(
                f"{path} is {size >> 20} MiB once it is unpacked, far more than its own size; write it again"
            )
        yield batch


def _require_few_rows(path: Path, rows: int) -> None:
    if not 0 <= rows <= MAX_ROWS:
        raise DataError(f"{path} has {rows:,} rows, where at most {MAX_ROWS:,} are read; give a part of it")


@contextmanager
def _one_sentence(path: Path, what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:  # names and texts that are not UTF-8 among them
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} {what} ({reason}); fetch or write it again") from None


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Column -> names of its ClassLabel, from the schema metadata that ``datasets`` writes; odd entries are ignored."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            str(column): tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature["names"], list)
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
