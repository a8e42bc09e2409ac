"""Several processes on one machine for a function of ours: each is a rank that accelerate finds by its environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from rora_cli.errors import RoraError, TrainingError


def launch(function: Callable[..., Any], arguments: Sequence[Any], processes: int) -> Any:
    """Run ``function(*arguments)`` in ``processes`` fresh processes; returns rank 0's result.

    A RoraError of any rank is raised here as it was there. Raises TrainingError when a process dies.
    """
    import torch

    context = torch.multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    environment |= {"LOCAL_WORLD_SIZE": str(processes)}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    running = torch.multiprocessing.start_processes(
        _work, (function, tuple(arguments), environment, answers), nprocs=processes, join=False, start_method="spawn"
    )
    collected: list[Any] = []
    try:
        # A large answer fills the pipe and would keep its sender from ending: read while waiting.
        while not running.join(timeout=0.2):
            _collect(answers, collected)
    except torch.multiprocessing.ProcessExitedException as error:
        raise TrainingError(
            f"process {error.error_index} of {processes} died ({error}); see its messages above"
        ) from None
    except torch.multiprocessing.ProcessRaisedException:
        _collect(answers, collected)
        refusals = [answer for answer in collected if isinstance(answer, RoraError)]
        if not refusals:
            raise
        raise refusals[0] from None
    _collect(answers, collected)
    return collected[0]


def _collect(answers: Any, collected: list[Any]) -> None:
    while not answers.empty():
        collected.append(answers.get())


def _work(rank: int, function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict, answers: Any) -> None:
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    try:
        result = function(*arguments)
    except RoraError as error:
        answers.put(error)
        raise
    finally:
        _leave()
    if rank == 0:
        answers.put(result)


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
