"""The memory of a device: in all, and free."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rora_cli.free_memory import free_memory
from rora_cli.planning.machine import total_memory


@dataclass(frozen=True)
class Memory:
    """Bytes of a device: in all, and what a run that starts now can have."""

    total: int
    free: int


def memory_of(device: str) -> Memory | None:
    """The memory of ``cpu`` or of a CUDA device; None where nothing tells."""
    if device.startswith("cuda"):
        return Memory(int(torch.cuda.mem_get_info(torch.device(device))[1]), free_memory(device))
    return Memory(total_memory(), free_memory(device)) if device == "cpu" else None
