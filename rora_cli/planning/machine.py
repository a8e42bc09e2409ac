"""What there is in all: memory of the machine, room on a disk. What of the memory is free, ``free_memory`` tells."""

from __future__ import annotations

import shutil
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def total_memory(groups: Path = _CGROUPS) -> int:
    """Bytes that a process of this machine can have at most, swap included, within the limit of its container."""
    import psutil

    total = int(psutil.virtual_memory().total + psutil.swap_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            total = min(total, int((groups / name).read_text()))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
    return total


def disk_room(path: Path) -> int:
    """Bytes that may still be written where ``path`` will be."""
    nearest = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(nearest).free
