"""What operating systems do not share: flags of open(2), owners, locks, and directories that can be flushed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Read the bytes of a regular file as they are; a pipe does not block. Windows has O_BINARY alone of the others.
READ = os.O_RDONLY
for _name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):
    READ |= getattr(os, _name, 0)
#: Do not open a link; 0 where the system has no such flag, and stamps alone tell a replaced file.
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
#: Whether directories can be opened: they are locked themselves then, and flushed.
OPENS_DIRECTORIES = hasattr(os, "O_DIRECTORY")


def user() -> int | None:
    """The id of the user whose rights this process has; None where files have no such owner."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def lock_beside(path: Path) -> Callable[[], None] | None:
    """Lock the file ``path`` for this process (filelock); returns what releases and removes it, None if it is taken.

    For systems whose directories cannot be opened, and so not be locked themselves.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None

    def release() -> None:
        lock.release()
        with suppress(OSError):
            path.unlink(missing_ok=True)

    return release
