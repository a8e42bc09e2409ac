"""An archive as an input: unpacked into a directory of its own, within limits, and removed in the end.

Python's own zipfile and tarfile read it. Regular files and folders alone are written, inside of the directory, and none
twice.
"""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from rora_cli.checkpoints.header import quoted
from rora_cli.checkpoints.rules import finding
from rora_cli.checkpoints.walk import MAX_ENTRIES
from rora_cli.errors import CheckpointError
from rora_cli.results.findings import Finding

#: Endings of archives that are taken for the checkpoints in them. What else is an archive inside (.nemo, .keras,
#: torch's .bin) are files of a checkpoint.
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
#: An archive may unpack to this many times its size, and weights compress to no less than a tenth.
_MAX_RATIO = 200
#: What a small archive may unpack to in any case [bytes].
_ALWAYS = 64 << 20
#: Share of the free space on the disk that may be filled.
_MAX_SHARE = 0.8
_CHUNK = 1 << 20
#: Kinds of a member of a zip: the upper four bits of st_mode.
_UNKNOWN, _DIRECTORY, _REGULAR = 0, 4, 8


class _Stop(Exception):
    """The archive is not read on; the text is the rest of the sentence "ARCHIVE ..."."""


def is_archive(path: Path) -> bool:
    """Whether ``path`` is an archive by its name."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


@contextmanager
def unpacked(archive: Path) -> Iterator[tuple[Path, list[Finding]]]:
    """A directory with what ``archive`` holds, until the block ends, and findings about what was not unpacked.

    Where one folder holds all, it is that folder.

    Raises:
        CheckpointError: nothing could be unpacked.
    """
    with TemporaryDirectory(prefix="rora-") as scratch:
        root = Path(scratch).resolve() / "unpacked"
        root.mkdir()
        findings: list[Finding] = []
        room = _room(archive, root)
        try:
            unpack = _zip if zipfile.is_zipfile(archive) else _tar
            for name, problem in unpack(archive, root, room):
                findings.append(finding("file/archive-member", f"the archive's member {quoted(name)} {problem}", name))
        except _Stop as stop:
            findings.append(finding("file/archive", f"{quoted(archive.name)} {stop}", archive.name))
        except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError,
                shutil.Error) as error:  # fmt: skip
            what = f"is damaged, encrypted or no archive that rora unpacks ({type(error).__name__})"
            findings.append(finding("file/archive", f"{quoted(archive.name)} {what}", archive.name))
        if not any(root.iterdir()):
            raise CheckpointError(f"{archive} {_reason(findings)}")
        yield _only_folder(root), findings


def _reason(findings: list[Finding]) -> str:
    """Why nothing came out of an archive."""
    if not findings:
        return "is an empty archive; name one that holds a model or adapter"
    return f"could not be unpacked: {findings[-1].message}"


def _only_folder(root: Path) -> Path:
    """The folder that holds all of an archive, as where a directory was packed by its name."""
    inside = list(root.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() else root


def _room(archive: Path, root: Path) -> _Room:
    """What may be unpacked of ``archive``: by the disk's free space, and by what is credible."""
    space = int(_MAX_SHARE * shutil.disk_usage(root).free)
    credible = max(_MAX_RATIO * archive.stat().st_size, _ALWAYS)
    if space < credible:
        return _Room(space, "unpacks to more than the disk has room for; unpack it elsewhere and name the directory")
    return _Room(credible, "unpacks to more than weights ever do: it is made to fill a disk, or not to be looked into")


class _Room:
    """How many bytes and members may still be unpacked, and what is said where they are more."""

    def __init__(self, left: int, reason: str) -> None:
        self._left, self._reason, self._members = left, reason, 0

    def member(self, announced: int) -> None:
        """Count a member of the ``announced`` size [bytes]. Raises _Stop where it does not fit."""
        self._members += 1
        if self._members > MAX_ENTRIES:
            raise _Stop(f"holds more than {MAX_ENTRIES:,} members; unpack it and name the checkpoint")
        if announced > self._left:
            raise _Stop(self._reason)

    def copy(self, source: IO[bytes], target: Path) -> None:
        """Write a member to ``target``. Raises _Stop where it is larger than there is room."""
        with target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                self._left -= len(chunk)
                if self._left < 0:
                    raise _Stop(self._reason)
                file.write(chunk)


def _zip(archive: Path, root: Path, room: _Room) -> Iterator[tuple[str, str]]:
    """Unpack a zip; yields the names of members that are left out, and why."""
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            kind = member.external_attr >> 28  # as in st_mode, where the archive has it
            problem = None if kind in (_UNKNOWN, _DIRECTORY, _REGULAR) else "is a link, pipe or device"
            problem = _place_problem(member.filename) or problem
            if problem is None:
                size = None if member.is_dir() else member.file_size
                problem = _write(root / member.filename, size, partial(members.open, member), room)
            if problem is not None:
                yield member.filename, problem


def _tar(archive: Path, root: Path, room: _Room) -> Iterator[tuple[str, str]]:
    """Unpack a tar; yields the names of members that are left out, and why."""
    with tarfile.open(archive) as members:
        for member in members:
            problem = _place_problem(member.name)
            if problem is None and not (member.isreg() or member.isdir()):
                problem = "is a link, pipe or device"
            if problem is None:
                size = None if member.isdir() else member.size
                problem = _write(root / member.name, size, partial(members.extractfile, member), room)
            if problem is not None:
                yield member.name, problem


def _write(target: Path, size: int | None, source: Callable[[], IO[bytes] | None], room: _Room) -> str | None:
    """Make the folder ``target``, or with a ``size`` the file; returns why not, or None."""
    if size is None:
        target.mkdir(parents=True, exist_ok=True)
        return None
    room.member(size)
    if target.exists():
        return "is there twice, and unpackers take either"
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = source()
    if opened is None:
        return "is no file"
    with opened:
        room.copy(opened, target)
    return None


def _place_problem(name: str) -> str | None:
    """Why a member of this name is not unpacked, or None."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in (path.parts or ("",))[0]:
        return "would be written outside of its directory"
    return None
