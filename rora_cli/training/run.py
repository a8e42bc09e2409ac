"""How this process works with the others: accelerate's handle, its share of what all do together, saved state."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import nn

from rora_cli.errors import RoraError, TrainingError, UsageError
from rora_cli.progress import SILENT, Progress
from rora_cli.ranks import ALONE, Share, outcome_of
from rora_cli.results.provenance import library_versions
from rora_cli.results.purify import StageRecord
from rora_cli.training.heap import give_back
from rora_cli.training.peers import unsupported
from rora_cli.training.state import RunState

Value = TypeVar("Value")

#: How long a process waits for the others before it gives up. They compute all together; what one does alone is to
#: load from a slower disk and, the main one, to write what the others wait for: 140 GB (70B parameters in 16 bits) are
#: written and read again in 47 minutes at 100 MB/s.
PATIENCE = timedelta(hours=1)
#: What torch's bfloat16 kernels for CPUs keep, one for each shape of a batch. By default it is 1,024, and a search of
#: MiniLM, whose batches have hundreds of shapes, held 530 MB of them, with 64 of each 195 MB, in the same time.
_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


@dataclass(frozen=True)
class Stage:
    """A training run within a command: its name, where its snapshots go (None: nowhere), and who hears of it."""

    name: str = "train"
    state: RunState | None = None
    progress: Progress = SILENT


def make_accelerator(precision: str = "fp32", device: str = "auto") -> Any:
    """The process's accelerate handle.

    Args:
        precision: as for ``mixed_precision``.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UsageError: torch does not see the device, or not one for each process; a CPU is to train in fp16; or the
            launcher asks for another parallelism than over data.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch sees no CUDA device; use --device cpu")
    mixed = mixed_precision(precision, on_cpu=on_cpu)
    if on_cpu and mixed == "fp16":
        raise UsageError("fp16 training needs a GPU; use --precision bf16 or fp32 on a CPU")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not on_cpu and torch.cuda.is_available() and local >= torch.cuda.device_count():
        raise UsageError(
            f"process {local} of this machine (counted from 0) needs a GPU of its own, and torch sees "
            f"{torch.cuda.device_count()}; start as many processes as there are GPUs, or use --device cpu"
        )
    if on_cpu and mixed == "bf16":
        for name, most in _KERNELS.items():  # read when the first such kernel is made
            os.environ.setdefault(name, most)
    if not torch.distributed.is_initialized():
        # accelerate keeps one state a process, and refuses a second run of another precision or device.
        AcceleratorState._reset_state(reset_partial_state=True)
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    accelerator = Accelerator(mixed_precision=mixed, cpu=on_cpu, kwargs_handlers=[patience])
    known = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
    if accelerator.distributed_type not in known:
        raise UsageError(unsupported("accelerate", accelerator.distributed_type.value))
    return accelerator


def mixed_precision(precision: str, *, on_cpu: bool) -> str:
    """accelerate's name (``no``, ``bf16``, ``fp16``) of what a forward pass computes in beside float32.

    Args:
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto``: what accelerate's environment says, and where that says
            nothing ``bf16`` if the device computes in it, else ``fp32``.
        on_cpu: whether the device is the CPU.
    """
    if precision == "auto":
        usual = "bf16" if computes_in_bfloat16("cpu" if on_cpu else "auto") else "no"
        return os.environ.get("ACCELERATE_MIXED_PRECISION", usual)
    return "no" if precision == "fp32" else precision


def roughly(mixed: str, device: str) -> AbstractContextManager[Any]:
    """Forward passes inside are in bfloat16 if ``mixed``, accelerate's name of a precision, is that."""
    return torch.autocast(device, torch.bfloat16) if mixed == "bf16" else nullcontext()


def computes_in_bfloat16(device: str = "auto") -> bool:
    """Whether the device (``cpu``, or ``auto``: a GPU where there is one) has instructions of its own for bfloat16.

    Elsewhere bfloat16 is slower than float32: seven times, on a processor with AVX2 alone.
    """
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


@dataclass
class Run:
    """What the stages of a command share in one of its processes. Every process calls the methods in the same order.

    Attributes:
        accelerator: the process's accelerate handle.
        state: where finished stages are kept for --resume; None keeps nothing.
        progress: who hears what is done.
        seed: of everything random.
        sharded: whether the suspect is divided among the processes, so that a forward pass needs all of them.
        stages: what was done so far, as the report shows it.
    """

    accelerator: Any
    state: RunState | None = None
    progress: Progress = SILENT
    seed: int = 0
    sharded: bool = False
    stages: list[StageRecord] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """The device that this process trains and measures on."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return bool(self.accelerator.is_main_process)

    @property
    def versions(self) -> dict[str, str]:
        """Versions for a report, and what was computed in where that is not float32."""
        mixed = str(self.accelerator.mixed_precision)
        return library_versions() | ({} if mixed == "no" else {"computed in": mixed})

    def rough(self) -> AbstractContextManager[Any]:
        """Forward passes inside are in bfloat16 if the run trains in it.

        For what float32 looks at again before anything is decided: screens of many candidates, and teachers' answers.
        """
        return roughly(self.accelerator.mixed_precision, self.device.type)

    @property
    def share(self) -> Share:
        """This process's place among those that work together; of a sharded suspect each asks everything itself."""
        processes = 1 if self.sharded else self.accelerator.num_processes
        return Share(self.accelerator.process_index, processes, self._gather) if processes > 1 else ALONE

    def _gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.accelerator.num_processes
        torch.distributed.all_gather_object(values, value)
        return values

    def require_equal(self, model: nn.Module) -> None:
        """Raise TrainingError if the processes do not hold the same weights, to the bit.

        They train with the same mean gradients and change weights by the same rules. Only unlike machines, or a fault
        of one, can tear them apart; what they measured together would then be of no model at all. A sharded model is
        not compared: each holds a part of it.
        """
        if self.share.processes == 1:
            return
        names, sums = _bit_sums(model)
        for rank, others in enumerate(self.share.gather(sums)):
            if different := [name for name, own, other in zip(names, sums, others, strict=True) if own != other]:
                raise TrainingError(
                    f"process {rank} of this run (counted from 0) holds other weights than process "
                    f"{self.accelerator.process_index}, {different[0]} first: their machines compute differently, or "
                    "one has a fault; start the run on machines of one kind, or in one process"
                )

    def recall_together(self, key: str, compute: Callable[[], Value]) -> Value:
        """``compute()``, which every process does at the same time with the same result; a resumed run takes the value
        from the journal, which the main process keeps. It must be plain JSON.

        Raises:
            RoraError: the one that ``compute`` raised, or, on every process, what is wrong with the journal.
        """
        state = self.state
        known = self._from_main(lambda: None if state is None else state.known(key))
        if known is not None:
            return known
        value = compute()
        return self._from_main(lambda: value if state is None else state.recall(key, lambda: value))

    def _from_main(self, read: Callable[[], Value]) -> Value:
        """What ``read`` gives on the main process, which alone keeps files; or the RoraError that it raises there."""
        outcome = outcome_of(read) if self.is_main else None
        if self.accelerator.num_processes > 1:
            (outcome, *_) = self._gather(outcome)
        if isinstance(outcome, RoraError):
            raise outcome
        return cast(Value, outcome)

    def stage(self, name: str) -> Stage:
        """A training run of that name, which saves its snapshots here and reports to the same listener."""
        return Stage(name, self.state, self.progress)

    def record(self, name: str, seconds: float = 0.0, **done: Any) -> None:
        """Add a stage to the report; ``done`` are further fields of its StageRecord.

        What its work left of the heap goes back to the system: of 4.1 GB that a purification of MiniLM held, 2.9 were.
        """
        self.stages.append(StageRecord(name, seconds, **done))
        give_back()


def _bit_sums(model: nn.Module) -> tuple[list[str], list[int]]:
    """The names of the model's tensors, and the sum of each one's bits, read as integers.

    Unlike a sum of floats it does not depend on the order.
    """
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    state = model.state_dict()
    sums = [tensor.contiguous().view(integers[tensor.itemsize]).sum(dtype=torch.int64) for tensor in state.values()]
    return list(state), torch.stack(sums).tolist() if sums else []
