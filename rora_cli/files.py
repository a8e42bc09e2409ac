"""Files on disk: hashes, and outputs that appear whole or not at all.

rora writes a directory as a hidden sibling, flushes it, adds a manifest of sha256 last, and renames it into place.
Whenever the run is killed, the output is absent, wholly the old one, or wholly the new one. An ``flock`` on the sibling
keeps two runs from writing one output. The kernel releases it when a run dies, which tells the leftovers of a dead run
from the files of a live one. Where a directory cannot be opened (Windows), a file beside it is locked instead.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rora_cli import system
from rora_cli.errors import OutputError

MANIFEST_NAME = "rora-manifest.json"
#: The JSON report that a command writes into its output directory.
REPORT_NAME = "rora-report.json"
#: The journal in the state of a run that is not finished.
JOURNAL_NAME = "journal.json"
MANIFEST_SCHEMA_VERSION = 1

_CHUNK = 1 << 20
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100
_WRITE_ERRORS = {
    errno.ENOSPC: "there is no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file would be larger than the file system or a limit allows",
}
_PATH_ERRORS = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "the operation is not permitted",
    errno.EIO: "the device reported an input/output error",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EISDIR: "it is a directory",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many files are open",
    errno.ELOOP: "a part of the path is a symbolic link",
}


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hex, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_output(out: str | os.PathLike[str], force: bool = False) -> None:
    """Refuse before the work starts what ``publish_directory`` would refuse after it.

    Raises:
        OutputError: ``out`` exists and ``force`` is not set; is a file, a link, or a directory that holds the user's
            home or working directory; cannot be written; or another run is writing it.
    """
    target = Path(out)
    _refuse_unsafe(target, force)
    with _os_errors(target):
        nearest = next(p for p in (target.absolute(), *target.absolute().parents) if p.exists())
        if nearest != target.absolute() and not nearest.is_dir():
            raise OutputError(f"cannot write {target}: {nearest} is not a directory")
        writable = nearest.parent if nearest == target.absolute() else nearest
        if not os.access(writable, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {target}: permission is denied in {writable}; choose another output")
        staging = _staging_path(target)
        # Missing: no run is writing it, or a run has just finished.
        with suppress(FileNotFoundError), _locked(staging, target, create=False):
            pass


@contextmanager
def publish_directory(
    out: str | os.PathLike[str], *, force: bool = False, instead: Callable[[], Path | None] = lambda: None
) -> Iterator[Path]:
    """Yield an empty staging directory beside ``out`` that becomes ``out`` when the block ends without an error.

    Enter it before the work starts, because from then on it keeps other runs from the output. At the end, the files get
    the modes that the umask asks for, and ``rora-manifest.json`` is written last (``schema_version``, and ``files``:
    relative path -> ``sha256`` and ``size``). With ``force``, an existing directory is replaced whole, in one step if
    the kernel can exchange two names (Linux). ``instead()``, asked when the block has ended, may give another directory
    beside ``out`` that is made, or replaced whole, in its place.

    Raises:
        OutputError: as ``check_output``, or the disk is full, read-only or failing; then ``out`` is untouched and
            nothing is left beside it.
    """
    target = Path(out)
    _refuse_unsafe(target, force)
    created = _make_parents(target)
    published = False
    try:
        with ExitStack() as held:
            with _os_errors(target):
                staging = _staging_path(target)
                held.enter_context(_locked(staging, target))
            try:
                with _os_errors(target, inside=staging):
                    _recover(target)
                    clear(staging)
                    yield staging
                    write_manifest(staging)
                    _flush_tree(staging)
                    place = instead()
                    _refuse_unsafe(place or target, force or place is not None)
                    if place is not None:
                        _recover(place)
                    _move_into_place(staging, place or target)
                published = True
            finally:
                if not published:
                    shutil.rmtree(staging, ignore_errors=True)
    finally:
        if not published:
            for parent in created:
                with suppress(OSError):
                    parent.rmdir()


def publish_file(path: str | os.PathLike[str], data: bytes | str, *, force: bool = True) -> None:
    """Write ``data`` (text as UTF-8) to ``path``, whole or not at all; to a pipe or device, directly.

    Raises:
        OutputError: the file exists and ``force`` is false, another run is writing it, or the disk fails.
    """
    target = Path(path)
    content = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    with _os_errors(target):
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(content)
            return
        if target.is_dir():
            raise OutputError(f"cannot write {target}: it is a directory; name a file")
        if target.exists() and not force:
            raise OutputError(f"{target} exists already; choose another file or pass --force to replace it")
    target = Path(os.path.realpath(target))  # a link stays a link: its target is replaced
    created = _make_parents(target)
    staging = target.with_name(f".{target.name}.rora-tmp")
    with _os_errors(target, inside=staging), _locked(staging, target, directory=False) as lock:
        try:
            # The lock's own descriptor, where it has one.
            with open(staging if lock is None else lock, "wb", closefd=lock is None) as file:
                file.truncate(0)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if force:
                staging.replace(target)
            else:
                _link_new(staging, target)
            _fsync(target.parent)
        except BaseException:
            staging.unlink(missing_ok=True)
            for parent in created:
                with suppress(OSError):
                    parent.rmdir()
            raise


def write_manifest(directory: Path) -> Path:
    """Write ``rora-manifest.json`` for all files in ``directory``, and give them the modes that the umask asks for."""
    files: dict[str, dict[str, str | int]] = {}
    for file in _regular_files(directory):
        name = file.relative_to(directory).as_posix()
        if name != MANIFEST_NAME:
            files[name] = {"sha256": sha256_file(file), "size": file.stat().st_size}
    manifest = directory / MANIFEST_NAME
    text = json.dumps({"schema_version": MANIFEST_SCHEMA_VERSION, "files": files}, indent=2, ensure_ascii=True)
    manifest.write_text(text + "\n", encoding="ascii")
    mode = stat.S_IMODE(manifest.stat().st_mode)  # 0666 after the umask and a default ACL
    for name in files:
        (directory / name).chmod(mode)
    for folder in {(directory / name).parent for name in files} - {directory}:
        folder.chmod(stat.S_IMODE(directory.stat().st_mode))
    return manifest


def _staging_path(target: Path) -> Path:
    return target.absolute().with_name(f".{target.name}.rora-staging")


def _previous_path(target: Path) -> Path:
    return target.absolute().with_name(f".{target.name}.rora-previous")


def _refuse_unsafe(target: Path, force: bool) -> None:
    if not target.name or target.name in {".", ".."}:
        raise OutputError(f"{target} cannot be an output directory; name a new directory")
    with _os_errors(target):
        if target.is_symlink():
            raise OutputError(f"{target} is a symbolic link; name the directory itself")
        if not target.exists():
            return
        if not target.is_dir():
            raise OutputError(f"{target} is a file; name a directory for the output")
        if next(target.iterdir(), None) is None:
            return
    if not force:
        raise OutputError(f"{target} exists already; choose another output or pass --force to replace it whole")
    here = target.resolve()
    for what, precious in (("your home directory", Path.home()), ("the working directory", Path.cwd())):
        if precious.resolve().is_relative_to(here):
            raise OutputError(f"{target} holds {what} and is not replaced; choose another output")


@contextmanager
def _locked(path: Path, target: Path, *, create: bool = True, directory: bool = True) -> Iterator[int | None]:
    """Hold the lock of ``path``: yields its descriptor, or None where a file beside it is locked.

    Raises OutputError if another run has it.
    """
    if system.OPENS_DIRECTORIES:
        descriptor = _lock(path, target, create=create, directory=directory)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    if not create and not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no run is writing", str(path))
    release = system.lock_beside(path.with_name(f"{path.name}.lock"))
    if release is None:
        raise _taken(target)
    try:
        if create and directory:
            path.mkdir(exist_ok=True)
        yield None
    finally:
        release()


def _taken(target: Path) -> OutputError:
    return OutputError(f"another rora run is writing {target}; wait for it or choose another output")


def _lock(path: Path, target: Path, *, create: bool, directory: bool) -> int:
    """Open and ``flock`` ``path``; returns the descriptor that keeps the lock. OutputError if another run has it."""
    import fcntl

    while True:
        if create and directory:
            path.mkdir(exist_ok=True)
        kind = os.O_RDONLY | os.O_DIRECTORY if directory else os.O_RDWR | (os.O_CREAT if create else 0)
        descriptor = os.open(path, kind | system.NO_FOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held, now = os.fstat(descriptor), path.stat(follow_symlinks=False)
            if (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino):
                if held.st_uid != system.user():  # its owner could change our files
                    raise OutputError(f"{path} belongs to another user; remove it, or choose another output")
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _taken(target) from None
        except FileNotFoundError:
            if not create:
                os.close(descriptor)
                raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another run renamed or removed it between open and flock: try again


def clear(directory: Path, *, keep: Container[str] = ()) -> None:
    """Remove everything in ``directory`` except the names in ``keep``; a link is removed, not followed."""
    for entry in directory.iterdir():
        if entry.name in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _recover(target: Path) -> None:
    """Finish or undo the work of a killed run without the exchange call, which set the old output aside."""
    previous = _previous_path(target)
    if previous.is_dir() and not previous.is_symlink():
        if target.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(target)


def _move_into_place(staging: Path, target: Path) -> None:
    parent = staging.parent
    if not target.exists() or next(target.iterdir(), None) is None:
        if target.exists() and not system.OPENS_DIRECTORIES:
            target.rmdir()  # Windows renames onto nothing only
        staging.rename(target)  # atomic onto nothing and onto an empty directory
        _fsync(parent)
    elif _exchange(staging, target):
        _fsync(parent)
        shutil.rmtree(staging, ignore_errors=True)  # now the old output
    else:
        previous = _previous_path(target)
        target.rename(previous)
        try:
            staging.rename(target)
        except BaseException:
            previous.rename(target)
            raise
        _fsync(parent)
        shutil.rmtree(previous, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step with renameat2(2); False if the system or the file system has no such call."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other.absolute()), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _link_new(staging: Path, target: Path) -> None:
    """Give the finished file its name, unless somebody took the name meanwhile."""
    try:
        target.hardlink_to(staging)
    except FileExistsError:
        raise OutputError(f"{target} exists already; choose another file or pass --force to replace it") from None
    staging.unlink()


def _make_parents(target: Path) -> list[Path]:
    """Make the missing parents; returns them innermost first, so that a failure can remove them."""
    with _os_errors(target):
        missing = [p for p in target.absolute().parents if not p.exists()]
        if missing:
            missing[0].mkdir(parents=True, exist_ok=True)
        return missing


def _regular_files(directory: Path) -> list[Path]:
    found = []
    for entry in sorted(directory.rglob("*")):
        mode = entry.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(entry)
        elif not stat.S_ISDIR(mode):
            raise OutputError(f"{entry.name} in the output is neither a file nor a directory; report this as a fault")
    return found


def _flush_tree(directory: Path) -> None:
    for entry in directory.rglob("*"):
        _fsync(entry)
    _fsync(directory)


def _fsync(path: Path) -> None:
    if not system.OPENS_DIRECTORIES and path.is_dir():
        return
    # Windows flushes only what may be written.
    descriptor = os.open(path, system.READ if system.OPENS_DIRECTORIES else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP} or not path.is_dir():
            raise  # some network file systems cannot flush a directory; a file that cannot be flushed is a failure
    finally:
        os.close(descriptor)


@contextmanager
def _os_errors(target: Path, inside: Path | None = None) -> Iterator[None]:
    """Turn the system's errors about writing ``target`` into one sentence.

    ``inside`` is the staging path; an error about a path elsewhere, such as an unreadable input, is passed on as it is.
    Libraries written in Rust report a full disk as text, so the number of the error is searched in their text.
    """
    try:
        yield
    except OSError as error:
        about = str(error.filename) if error.filename is not None else None
        ours = inside is None or about is None or Path(about).absolute().is_relative_to(inside)
        reason = _WRITE_ERRORS.get(error.errno or 0) or (_PATH_ERRORS.get(error.errno or 0) if ours else None)
        if reason is None:
            raise
        raise OutputError(f"cannot write {target}: {reason}; nothing was written") from error
    except OutputError:
        raise
    except Exception as error:
        for code, reason in _WRITE_ERRORS.items():
            if f"os error {code})" in str(error):
                raise OutputError(f"cannot write {target}: {reason}; nothing was written") from error
        raise
