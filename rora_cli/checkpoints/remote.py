"""A checkpoint on the hub, without downloading it: headers and the insides of pickles are asked for in parts.

Small files that ``check`` reads are fetched whole into a directory that is removed afterwards, headers of safetensors
and the pickles in torch's archives by range requests. Nothing goes into the hub's cache, where a loader could find it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from rora_cli.checkpoints import other_files
from rora_cli.checkpoints.header import MAX_HEADER_BYTES, Header, HeaderError, parse_header, quoted
from rora_cli.checkpoints.pickles import PickleReader
from rora_cli.checkpoints.preflight import Inspection, Role, inspect_files
from rora_cli.checkpoints.rules import finding
from rora_cli.checkpoints.walk import MAX_ENTRIES, FileEntry, look_at_file
from rora_cli.errors import CheckpointError, HubError
from rora_cli.hub_access import RemoteFile, RemoteRepository
from rora_cli.results.findings import Finding

#: Files up to this size [bytes] are fetched whole, if they are read at all; of others the start tells what they are.
_WHOLE, _START = 64 << 20, 4 << 10
#: Of a header, this much is asked for at once [bytes]; most are smaller.
_FIRST_PART = 256 << 10
#: What is smaller [bytes] is fetched whole, and judged as the file that it is: cut off, or a pointer to another one.
_SMALLEST_WEIGHTS = _START
#: A part of a large pickle [bytes], and how many parts of one are asked for at most.
_PART, _MAX_PARTS = 64 << 10, 1024
_CONNECTIONS = 8


@dataclass
class _Fetched:
    """What is known of a repository's files: entries with their true sizes, headers, and findings about the rest."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    headers: dict[str, Header | HeaderError] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@contextmanager
def inspected(repository: RemoteRepository, role: Role | None) -> Iterator[Inspection]:
    """The inspection of ``repository``; what was fetched is there until the block ends.

    Raises:
        CheckpointError: it is empty, or only holds folders of checkpoints.
        HubError: the hub does not answer, or not with what it announced.
    """
    if not repository.files:
        raise CheckpointError(f"{repository.repo_id} holds no files; name a model or adapter repository")
    with TemporaryDirectory(prefix="rora-") as scratch:
        fetched = _fetch(repository, Path(scratch).resolve())
        pickles = _RemotePickles(repository)
        yield inspect_files(
            Path(scratch).resolve(), fetched.entries, fetched.findings,
            named=repository.repo_id, role=role, headers=fetched.headers, pickles=pickles,
        )  # fmt: skip


def _fetch(repository: RemoteRepository, root: Path) -> _Fetched:
    fetched = _Fetched()
    files = sorted(repository.files.values(), key=lambda file: file.name)[:MAX_ENTRIES]
    if len(files) < len(repository.files):
        fetched.findings.append(finding("file/too-many", f"the repository holds more than {MAX_ENTRIES:,} files"))
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for file, (content, header) in zip(files, pool.map(partial(_content, repository), files), strict=True):
            path = root / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            fetched.entries[file.name] = replace(look_at_file(path), name=file.name, size=file.size)
            if header is not None:
                fetched.headers[file.name] = header
            # Large JSON is refused by its size, and pickles are asked for in parts.
            elif len(content) < file.size and _kind(file) == "read" and not file.name.endswith(".json"):
                message = f"{quoted(file.name)} has {file.size:,} bytes, more than rora fetches"
                fetched.findings.append(finding("file/not-analysed", message, file.name))
    return fetched


def _kind(file: RemoteFile) -> other_files.Kind:
    return other_files.kind(file.name)


def _content(repository: RemoteRepository, file: RemoteFile) -> tuple[bytes, Header | HeaderError | None]:
    """The content of a small file that is read, the start of any other one; and the header of safetensors."""
    limit = {"read": _WHOLE, "pickle": _FIRST_PART}.get(_kind(file), 0)
    if file.name.endswith(".safetensors"):
        start = repository.read(file, 0, min(file.size, _START))
        return start, _header(repository, file, start) if file.size >= _SMALLEST_WEIGHTS else None
    if file.size > limit:
        return repository.read(file, 0, min(file.size, _START)), None
    content = repository.read(file, 0, file.size)
    repository.require_announced(file, content)
    return content, None


def _header(repository: RemoteRepository, file: RemoteFile, start: bytes) -> Header | HeaderError:
    length = int.from_bytes(start[:8], "little")
    if length > min(file.size - 8, MAX_HEADER_BYTES):
        return HeaderError(f"states a header of {length:,} bytes, which is more than it has or than rora reads")
    while len(start) < 8 + length:
        start += repository.read(file, len(start), min(8 + length - len(start), max(_FIRST_PART, len(start))))
    try:
        return parse_header(start[8 : 8 + length], file.name, file.size)
    except HeaderError as error:
        return error


class _RemotePickles(PickleReader):
    """Reads the pickles of a repository where they lie."""

    def __init__(self, repository: RemoteRepository) -> None:
        super().__init__()
        self._repository = repository

    def open(self, entry: FileEntry) -> IO[bytes]:
        """The file on the hub, or its copy where it was fetched whole."""
        if entry.path.stat().st_size == entry.size:
            return entry.path.open("rb")
        return io.BufferedReader(_Parts(self._repository, self._repository.files[entry.name]), _PART)


class _Parts(io.RawIOBase):
    """A file on the hub that is asked for in parts, each once."""

    def __init__(self, repository: RemoteRepository, file: RemoteFile) -> None:
        self._repository, self._file, self._position = repository, file, 0
        self._parts: dict[int, bytes] = {}

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a byte; nothing is asked for."""
        self._position = max(0, offset + {0: 0, 1: self._position, 2: self._file.size}[whence])
        return self._position

    def tell(self) -> int:
        """The byte that is read next."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill ``buffer`` up to the end of a part. Raises OSError where too many parts are asked for."""
        number, within = divmod(self._position, _PART)
        if self._position >= self._file.size:
            return 0
        if number not in self._parts:
            if len(self._parts) >= _MAX_PARTS:
                raise OSError(f"more than {_MAX_PARTS} parts of {self._file.name} would be fetched")
            start = number * _PART
            try:
                self._parts[number] = self._repository.read(self._file, start, min(_PART, self._file.size - start))
            except HubError as error:
                raise OSError(str(error)) from error
        piece = self._parts[number][within : within + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
