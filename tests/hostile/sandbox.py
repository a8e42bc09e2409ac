"""Run a function in a forked child that is watched: what it opens, starts, imports and connects to, time and memory."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pickle.find_class",
    "socket.connect", "socket.getaddrinfo", "socket.bind",
)  # fmt: skip
#: Where the interpreter and the libraries themselves may read: code, the system's tables, and scratch of ours.
_LIBRARIES = tuple(
    {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, str(Path(os.__file__).parent), *sys.path) if p}
    | {os.path.realpath(Path(__file__).parents[2] / "rora_cli"), "/proc", "/sys", "/usr", "/lib", "/lib64"}
)


@dataclass
class Outcome:
    """``error`` is (class, message) of what was raised; ``signal`` is set when the child was killed.

    ``seconds`` are the processor's, which do not depend on what else the machine does.
    """

    value: Any = None
    error: tuple[str, str] | None = None
    signal: int = 0
    opened: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0

    def opened_outside(self, *allowed: Path) -> list[str]:
        inside = (*_LIBRARIES, *(os.path.realpath(p) for p in allowed))
        return sorted({p for p in self.opened if not any(p == a or p.startswith(a + "/") for a in inside)})


def watch(function: Callable[[], Any], *, seconds: int = 60, memory: int = 2 << 30) -> Outcome:
    """Run ``function`` in a child that may allocate ``memory`` bytes more than it starts with.

    It is killed after ``seconds`` of processor time, and after ten times as many of the clock's: it may be waiting.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(function, writer, seconds, memory)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(child, 0)
    if not data:
        return Outcome(signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else -1)
    return pickle.loads(data)


def _in_child(function: Callable[[], Any], writer: int, seconds: int, memory: int) -> None:
    outcome = Outcome()
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
            outcome.opened.append(os.path.realpath(os.fsdecode(arguments[0])))
        elif event in _FORBIDDEN:
            outcome.forbidden.append(f"{event} {str(arguments)[:200]}")

    start, before = time.process_time(), _peak()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends a process
    signal.alarm(10 * seconds)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_size() + memory,) * 2)
    sys.addaudithook(hook)
    try:
        outcome.value = function()
    except BaseException as error:
        outcome.error = (type(error).__name__, str(error))
    watching = False
    outcome.seconds, outcome.peak_bytes = time.process_time() - start, _peak() - before
    with os.fdopen(writer, "wb") as stream:
        stream.write(pickle.dumps(outcome))
    os._exit(0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _data_size() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[5]) * resource.getpagesize()
