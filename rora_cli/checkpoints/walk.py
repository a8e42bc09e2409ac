"""Walks an untrusted directory: it follows no link that leads out, and opens only regular files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rora_cli import system
from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.errors import CheckpointError
from rora_cli.results.findings import Finding

MAX_ENTRIES = 5_000
MAX_FOLDER_DEPTH = 16

_PICKLE_ENDINGS = (
    ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".mar", ".npy", ".npz", ".h5", ".keras",
    ".msgpack", ".pt2", ".ptl",
)  # fmt: skip
_CODE_ENDINGS = (
    ".py", ".pyc", ".pyd", ".pyw", ".pth.py", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".js", ".jar",
    ".ipynb", ".egg", ".whl",
)  # fmt: skip
#: First bytes of files that hold code or unpack to it: pickle protocols 2 to 5, zip (torch.save), gzip, xz, ELF, PE,
#: Mach-O.
_MAGIC = (
    b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ", b"\x7fELF", b"MZ",
    b"\xcf\xfa\xed\xfe",
)  # fmt: skip
_TEXT_ENDINGS = (".json", ".safetensors", ".txt", ".md", ".jinja", ".model", ".jsonl", ".yaml", ".yml")


@dataclass(frozen=True)
class FileEntry:
    """One regular file: its name relative to the directory, its real path, and the ``stamp`` that identifies it."""

    name: str
    path: Path
    size: int
    stamp: tuple[int, int, int, int]

    @property
    def is_pickle(self) -> bool:
        """Whether its ending is that of a file that is, or may hold, a pickle."""
        return self.name.lower().endswith(_PICKLE_ENDINGS)

    @property
    def is_code(self) -> bool:
        """Whether its ending is that of program code."""
        return self.name.lower().endswith(_CODE_ENDINGS)


def stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """Device, inode, size and change time; if they differ, a file is not the one that was inspected."""
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns  # anybody can reset the modification time


def open_unchanged(entry: FileEntry) -> int:
    """A descriptor of the very file that was inspected.

    Raises:
        CheckpointError: it cannot be opened, or it was changed or replaced.
    """
    try:
        descriptor = os.open(entry.path, system.READ | system.NO_FOLLOW)
    except OSError as error:
        raise CheckpointError(f"{entry.path} cannot be opened: {error.strerror}") from error
    if stamp(os.fstat(descriptor)) != entry.stamp:
        os.close(descriptor)
        raise CheckpointError(f"{entry.path} was changed after it was inspected; run again on a quiet copy")
    return descriptor


def read_unchanged(entry: FileEntry) -> bytes:
    """The bytes of the very file that was inspected.

    Raises CheckpointError if it cannot be read, or was changed or replaced.
    """
    try:
        with os.fdopen(open_unchanged(entry), "rb") as file:
            return file.read(entry.size)
    except OSError as error:
        raise CheckpointError(f"{entry.path} cannot be read: {error.strerror}") from error


def walk(root: Path) -> tuple[dict[str, FileEntry], list[Finding]]:
    """The regular files under ``root`` (a resolved path) by relative name, and findings about everything else."""
    files: dict[str, FileEntry] = {}
    findings: list[Finding] = []
    for count, (entry, depth) in enumerate(_entries(root, findings), start=1):
        if count > MAX_ENTRIES or depth > MAX_FOLDER_DEPTH:
            what = f"more than {MAX_ENTRIES:,} entries" if count > MAX_ENTRIES else "folders nested too deep"
            findings.append(finding("file/too-many", f"the directory holds {what}"))
            break
        found, problem = _look_at(root, entry)
        if found:
            files[found.name] = found
        findings += problem
    return files, findings


def look_at_file(path: Path) -> FileEntry:
    """The entry of one file that the user named.

    Raises:
        OSError: it cannot be looked at.
    """
    real = path.resolve()
    status = real.stat()
    return FileEntry(path.name, real, status.st_size, stamp(status))


def disguised(entry: FileEntry) -> bool:
    """Whether a file starts like a pickle, an archive or a program although its ending says text or tensors."""
    if not (entry.name.lower().endswith(_TEXT_ENDINGS) or "." not in Path(entry.name).name):
        return False
    with os.fdopen(os.open(entry.path, system.READ), "rb", buffering=0) as file:
        start = file.read(9) or b""
    # A safetensors header of 640 bytes starts like a pickle, but a brace follows its length.
    return start.startswith(_MAGIC) and start[8:] != b"{"


def _entries(root: Path, findings: list[Finding]) -> Iterator[tuple[os.DirEntry[str], int]]:
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda e: e.name)
        except OSError as error:
            name = quoted(folder.relative_to(root).as_posix())
            findings.append(finding("file/unreadable", f"the folder {name} cannot be read ({error.strerror})", name))
            continue
        for entry in entries:
            yield entry, depth
            if entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), depth + 1))


def _look_at(root: Path, entry: os.DirEntry[str]) -> tuple[FileEntry | None, list[Finding]]:
    name = Path(entry.path).relative_to(root).as_posix()
    shown = quoted(name)
    problems = []
    if not name.isprintable():
        problems.append(finding("file/name", f"the file name {shown} holds unprintable characters", shown))
    try:
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not is_allowed_target(root, target):
                return None, [
                    *problems,
                    finding("file/outside", f"{shown} is a link that leads out of {root.name}", shown),
                ]
            if not target.exists():
                return None, [*problems, finding("file/dangling-link", f"{shown} is a link to nothing", shown)]
            if target.is_dir():
                return None, problems  # it lies inside of the root, where the walk finds it
        status = Path(entry.path).stat()
    except (OSError, ValueError) as error:
        return None, [*problems, finding("file/unreadable", f"{shown} cannot be looked at ({error})", shown)]
    if stat.S_ISDIR(status.st_mode):
        return None, problems
    if not stat.S_ISREG(status.st_mode):
        return None, [*problems, finding("file/special", f"{shown} is a pipe, socket or device", shown)]
    return FileEntry(name, Path(os.path.realpath(entry.path)), status.st_size, stamp(status)), problems


def is_allowed_target(root: Path, target: Path) -> bool:
    """Whether a link to ``target`` is allowed: inside of ``root``, or in the layout of the hub's cache.

    There, REPO/snapshots/REVISION/file links to REPO/blobs/HASH.
    """
    if target.is_relative_to(root):
        return True
    repo = root.parent.parent
    in_cache = root.parent.name == "snapshots" and repo.name.startswith(("models--", "datasets--"))
    return in_cache and target.parent == repo / "blobs"
