"""Reads the text of a data file: unpacks gzip, bzip2, xz and zip, decodes UTF-8 and UTF-16 with a byte order mark."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rora_cli import stand_ins
from rora_cli.errors import DataError

#: Largest size of a text file [bytes], because it is read whole; larger data belong into Parquet.
MAX_TEXT_BYTES = 2 << 30

#: Endings of packed files; the ending before it tells the format inside.
PACKED = (".gz", ".bz2", ".xz", ".zip")

_OPENERS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
#: (byte order mark, encoding), UTF-32 first, because its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZIP = b"PK\x03\x04"
#: First bytes of other formats that people give a text ending, and the rest of the sentence "FILE ..." about each.
_IMPOSTORS = (
    (b"par1", "is a Parquet file; give it the ending .parquet"),
    (b"arrow1", "is an Arrow file; give it the ending .arrow"),
    (b"\xd0\xcf\x11\xe0", "is a spreadsheet, which is not read; save the sheet as CSV (UTF-8) and give that"),
)


def inner_suffix(name: str) -> str:
    """The ending, in lower case, that tells the format inside of a file: ``.csv`` for ``rows.csv.gz``."""
    path = PurePosixPath(name)
    if path.suffix.lower() in PACKED:
        path = path.with_suffix("")
    return path.suffix.lower()


def is_packed(name: str) -> bool:
    """Whether the file's ending is that of a packed file."""
    return PurePosixPath(name).suffix.lower() in PACKED


def read_text(path: Path) -> str:
    """The whole text of ``path``, unpacked and decoded.

    Raises:
        DataError: it is too large, damaged, no text in UTF-8 or marked UTF-16, or plainly another kind of file.
    """
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise DataError(f"{path} has {size >> 20} MiB, more than is read of a text format; convert it to Parquet")
    raw = path.read_bytes()
    if raw.startswith(_ZIP):
        raw = _read_member(path, raw)
    for magic, opener in _OPENERS:
        if raw.startswith(magic):
            raw = _unpack(path, partial(opener, io.BytesIO(raw)))
            break
    return _decode(path, raw)


def _decode(path: Path, raw: bytes) -> str:
    stand_in = stand_ins.recognise(raw[: stand_ins.START_BYTES], len(raw))
    if stand_in is not None and not stand_in.is_blank:
        raise DataError(f"{path} {stand_in.what}; {stand_in.advice}")
    for beginning, sentence in _IMPOSTORS:
        if raw[:64].lower().startswith(beginning):
            raise DataError(f"{path} {sentence}")
    if 4 * raw[:400].count(0) > len(raw[:400]) and not raw.startswith(tuple(mark for mark, _ in _MARKS)):
        raise DataError(f"{path} is not UTF-8 (UTF-16 without a byte order mark?); convert it with iconv -t UTF-8")
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8-sig")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start}); convert it, say with iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def _unpack(path: Path, opened: Callable[[], Any]) -> bytes:
    """The unpacked bytes, at most MAX_TEXT_BYTES: a small file can unpack to any number of gigabytes."""
    try:
        with opened() as stream:
            raw = stream.read(MAX_TEXT_BYTES + 1)
    except (
        EOFError,
        OSError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); fetch or pack it again") from None
    if len(raw) > MAX_TEXT_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_TEXT_BYTES >> 20} MiB; convert it to Parquet")
    return raw


def _read_member(path: Path, raw: bytes) -> bytes:
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} cannot be unpacked ({error}); fetch or pack it again") from None
    with archive:
        if "[Content_Types].xml" in archive.namelist():
            raise DataError(f"{path} is a spreadsheet, which is not read; save the sheet as CSV (UTF-8) and give that")
        name = _only_member(path, archive)
        return _unpack(path, lambda: archive.open(name))


def member_name(path: Path, endings: Container[str]) -> str:
    """The name of the only file in a .zip archive. Raises DataError if there are several, or if it is no data file."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = _only_member(path, archive)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} cannot be unpacked ({error}); fetch or pack it again") from None
    if inner_suffix(name) not in endings:
        raise DataError(f"{path} holds no data file; pack a CSV, TSV, JSON or JSON lines file")
    return name


def _only_member(path: Path, archive: Any) -> str:
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/") and not PurePosixPath(name).name.startswith(".")
    ]
    if len(names) != 1:
        raise DataError(f"{path} holds {len(names)} files, where one is read; unpack it and give their directory")
    return str(names[0])
