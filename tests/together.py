"""Several processes of a run as threads of one: they hand values over as processes do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from rora_cli.ranks import Share

Value = TypeVar("Value")
#: Seconds after which a process that waits for one that never comes is an error.
_PATIENCE = 30.0


def together(processes: int, work: Callable[[Share], Value]) -> list[Value]:
    """What ``work`` returns in each process, by rank; all are ended by the first that raises something."""
    everyone, barrier = [None] * processes, Barrier(processes, timeout=_PATIENCE)

    def one(rank: int) -> Value:
        def gather(value: Any) -> list[Any]:
            everyone[rank] = value
            barrier.wait()
            gathered = list(everyone)
            barrier.wait()
            return gathered

        try:
            return work(Share(rank, processes, gather))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(one, range(processes)))


def own_words(written: str) -> list[str]:
    """The lines of a standard output without those of gloo, which tells there of its connections in torch 2.9."""
    return [line for line in written.splitlines() if not line.startswith("[Gloo]")]
