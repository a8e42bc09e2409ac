"""How much memory is free: on an accelerator, or on the machine within the limits of its container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: Any = "cpu") -> int:
    """The bytes that can still be taken on ``device``, a ``torch.device`` or its name."""
    import torch

    kind = torch.device(device)
    if kind.type == "cuda":
        return int(torch.cuda.mem_get_info(kind)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    left = _left_in_container(_CGROUP)
    return free if left is None else min(free, left)


def _left_in_container(group: Path) -> int | None:
    """What a container may still take [bytes], by its control group (version 2); None without a limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    # The kernel counts files that were read, and drops them where memory is short.
    return max(int(limit) - used + int(facts.get("inactive_file", 0)), 0) if limit.isdecimal() else None
