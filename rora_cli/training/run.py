"""How this process works with the others: accelerate's handle, and what only the main process computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from rora_cli.errors import RoraError, UsageError
from rora_cli.progress import SILENT, Progress
from rora_cli.training.launch import only_data_parallel
from rora_cli.training.state import RunState


@dataclass(frozen=True)
class Stage:
    """A training run within a command: its name, where its snapshots go (None: nowhere), and who hears of it."""

    name: str = "train"
    state: RunState | None = None
    progress: Progress = SILENT


def make_accelerator(precision: str = "fp32", device: str = "auto") -> Any:
    """The process's accelerate handle; ``device`` is ``auto``, ``cpu`` or ``cuda``. Raises UsageError without one."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch sees no CUDA device; use --device cpu")
    if on_cpu and precision == "fp16":
        raise UsageError("fp16 training needs a GPU; use --precision bf16 or fp32 on a CPU")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not on_cpu and torch.cuda.is_available() and local >= torch.cuda.device_count():
        raise UsageError(
            f"process {local} of this machine (counted from 0) needs a GPU of its own, and torch sees "
            f"{torch.cuda.device_count()}; start as many processes as there are GPUs, or use --device cpu"
        )
    if not torch.distributed.is_initialized():
        # accelerate keeps one state a process, and refuses a second run of another precision or device.
        AcceleratorState._reset_state(reset_partial_state=True)
    # The main process may search or evaluate alone for long while the others wait for it.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    mixed = "no" if precision == "fp32" else precision
    accelerator = Accelerator(mixed_precision=mixed, cpu=on_cpu, kwargs_handlers=[patience])
    known = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
    if accelerator.distributed_type not in known:
        raise UsageError(only_data_parallel("accelerate", accelerator.distributed_type.value))
    return accelerator


def on_main(accelerator: Any, compute: Callable[[], Any]) -> Any:
    """``compute()`` on the main process, its result, or the RoraError that it raises, on every process."""
    if accelerator.num_processes == 1:
        return compute()
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = compute()
        except RoraError as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
