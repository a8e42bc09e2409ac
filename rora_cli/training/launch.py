"""Several processes on one machine for a function of ours: each is a rank that accelerate finds by its environment.

The children are fresh interpreters that import the function by name and never see the caller's ``__main__``, so a
script without a guard, ``python -c``, standard input and a notebook can all start them. A child answers over a pipe of
its own. What rank 0 reports of its progress goes the same way and is shown by the caller, who has the terminal.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from traceback import format_exc
from typing import Any

from rora_cli.errors import ProcessDied, RoraError, UsageError
from rora_cli.progress import SILENT, Progress, Task
from rora_cli.ranks import is_main, rank, world_size
from rora_cli.threads import allowed_cores
from rora_cli.training.peers import PeerLost, leave

#: Seconds that a child has to end by itself after another has failed.
_AFTER_FAILURE = 5.0
#: Seconds that it has after it was interrupted.
_AFTER_INTERRUPT = 15.0
_INTERRUPTED = 130

# The caller's sys.path comes first of all: an interpreter started with -c would look for rora in the working directory.
_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from rora_cli.training.launch import serve; serve(int(sys.argv[1]))"


class ChildTraceback(Exception):
    """The traceback of a child's error: the cause of the error that the caller raises."""


def launch(function: Callable[[Any, Progress], Any], config: Any, processes: int, progress: Progress = SILENT) -> Any:
    """Run ``function(config, progress)`` in ``processes`` fresh processes; returns rank 0's result.

    ``function`` is defined at the top of a module, ``config`` is a dataclass of plain values.

    Raises:
        ProcessDied: a process ended without an answer.
        UsageError: ``config`` holds something that cannot be handed to another process.
        Exception: whatever a rank raised, as it was raised there.
    """
    _require_plain(config)
    if not sys.executable:
        raise UsageError("num_processes above 1 needs a Python interpreter to start; this program has none of its own")
    group = _Group(processes)
    try:
        with ExitStack() as phases:
            replay = _Replay(progress, phases)
            group.start(function, config)
            return group.attend(replay)
    finally:
        group.end()


def _require_plain(config: Any) -> None:
    for each in fields(config):
        if not _is_plain(value := getattr(config, each.name)):
            raise UsageError(
                f"{each.name} is a {type(value).__name__} in this program's memory, which cannot be handed to several "
                "processes; write it to a file and name that, or use num_processes=1"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    if is_dataclass(value):
        return all(_is_plain(getattr(value, each.name)) for each in fields(value))
    return value is None or isinstance(value, str | bytes | int | float | os.PathLike)


@dataclass
class _Group:
    """The children of one launch. ``codes`` has the exit status of those that ended, ``stopped`` those ended by us."""

    processes: int
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    events: SimpleQueue[tuple[int, str, Any]] = field(default_factory=SimpleQueue)
    codes: dict[int, int] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)
    errors: dict[int, BaseException] = field(default_factory=dict)

    def start(self, function: Any, config: Any) -> None:
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        environment |= {"WORLD_SIZE": str(self.processes), "LOCAL_WORLD_SIZE": str(self.processes)}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, int(allowed_cores()) // self.processes)))
        # Categories of other libraries' own cannot be told by name to a process that has not imported them.
        filters = [f for f in warnings.filters if getattr(f[2], "__module__", "") == "builtins"]
        work = pickle.dumps((function, config, filters))
        for number in range(self.processes):
            ours, theirs = Pipe()
            self.connections.append(ours)
            self.running[number] = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", _CHILD, str(theirs.fileno()), *sys.path],
                env=environment | _of_rank(number),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # only results belong on stdout
                start_new_session=True,  # Ctrl-C reaches the caller alone, who ends the children in order
            )
            theirs.close()
            Thread(target=self._read, args=(number, ours, self.running[number]), daemon=True).start()
            with suppress(OSError):  # a child that is dead already is found by its exit status
                ours.send_bytes(work)

    def _read(self, number: int, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        try:
            while True:
                kind, content = connection.recv()
                self.events.put((number, kind, content))
        except (EOFError, OSError):
            pass
        except Exception as error:  # a result that cannot be made again from what was sent
            unread = RuntimeError(f"the answer of process {number} cannot be read: {type(error).__name__}: {error}")
            self.events.put((number, "error", (unread, "")))
        self.events.put((number, "ended", process.wait()))

    def attend(self, replay: _Replay) -> Any:
        """Show progress and wait until all have ended; returns rank 0's result or raises what went wrong."""
        results: list[Any] = []
        interrupted = False
        deadlines = _Deadlines()
        while self.running:
            try:
                number, kind, content = self.events.get(timeout=deadlines.left())
                if kind == "progress":
                    replay(content)
                elif kind == "result":
                    results.append(content)
                elif kind == "error":
                    self.errors[number], trace = content
                    self.errors[number].__cause__ = ChildTraceback(trace)
                else:
                    self.codes[number] = content
                    self.running.pop(number, None)
                if (number == 0 and kind in ("error", "ended")) or (kind == "ended" and content):
                    self._after(number, deadlines)
            except Empty:
                self._press(deadlines)
            except KeyboardInterrupt:
                self._signal(signal.SIGKILL if interrupted else signal.SIGINT)
                interrupted = True
                deadlines.set(_AFTER_INTERRUPT, last=True)
        if interrupted:
            raise KeyboardInterrupt
        if results:
            return results[0]
        raise self._failure()

    def _after(self, number: int, deadlines: _Deadlines) -> None:
        """Rank 0 has failed or ended, or another rank has failed: the others get a deadline to end by themselves.

        Only rank 0 has anything to put away, so after its own failure the others are ended at once: they would wait for
        it in vain.
        """
        if number == 0 and 0 in self.errors and not isinstance(self.errors[0], PeerLost):
            self._signal(signal.SIGKILL, but=0)
        deadlines.set(_AFTER_FAILURE)

    def _press(self, deadlines: _Deadlines) -> None:
        """A deadline is over: rank 0 is interrupted first, so that it can put away what it holds."""
        if deadlines.last or 0 not in self.running:
            self._signal(signal.SIGKILL)
            # An interruption may have come between the word of an end and its being noted.
            self.running = {child: process for child, process in self.running.items() if process.poll() is None}
        else:
            self._signal(signal.SIGINT)
        deadlines.set(_AFTER_INTERRUPT, last=True)

    def _signal(self, number: int, but: int | None = None) -> None:
        for child, process in self.running.items():
            if child != but and process.poll() is None:
                self.stopped.add(child)
                process.send_signal(number)

    def _failure(self) -> BaseException:
        """The first cause: a process that died by itself; else the error that is least an echo of another's."""
        for number, code in sorted(self.codes.items()):
            if number not in self.stopped and number not in self.errors and code:
                return _died(number, self.processes, code)
        if self.errors:
            return min(sorted(self.errors.items()), key=lambda pair: _precedence(pair[1]))[1]
        return ProcessDied(f"none of the {self.processes} processes gave an answer; see their messages above")

    def end(self) -> None:
        """End whatever still runs, whatever happened here."""
        self._signal(signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        for connection in self.connections:
            connection.close()


def _precedence(error: BaseException) -> int:
    """Order of errors: a sentence for the user first, then a fault of ours, and last the echo of another's end."""
    return 2 if isinstance(error, PeerLost) else 0 if isinstance(error, RoraError) else 1


@dataclass
class _Deadlines:
    """When to stop waiting: ``at`` a time of ``monotonic`` [s]. After the ``last`` one only SIGKILL is left."""

    at: float | None = None
    last: bool = False

    def set(self, seconds: float, *, last: bool = False) -> None:
        if self.at is None or last:
            self.at, self.last = monotonic() + seconds, last

    def left(self) -> float | None:
        return None if self.at is None else max(0.0, self.at - monotonic())


def _of_rank(number: int) -> dict[str, str]:
    silent = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} if number else {}
    return {"RANK": str(number), "LOCAL_RANK": str(number), **silent}


def _died(number: int, processes: int, code: int) -> ProcessDied:
    who = f"process {number} of {processes} (counted from 0)"
    if code > 0:
        return ProcessDied(f"{who} ended with exit code {code} and no answer; see its messages above")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "an unknown one"
    return ProcessDied(f"{who} was ended by signal {-code} ({name})", by_signal=-code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- progress, from rank 0 to the caller ----


class _Relay:
    """Rank 0's listener: tells the caller what to show."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._phases = connection, 0

    def _send(self, *call: Any) -> None:
        with suppress(OSError):  # the caller has gone: the thread that watches for that ends this process
            self._connection.send(("progress", call))

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Task]:
        self._phases += 1
        number = self._phases
        self._send("begin", number, name, total)
        yield _RelayedTask(self._send, number)
        self._send("end", number)

    def note(self, message: str) -> None:
        self._send("note", message)

    def warn(self, message: str) -> None:
        self._send("warn", message)


@dataclass(frozen=True)
class _RelayedTask:
    send: Callable[..., None]
    number: int

    def advance(self, steps: int = 1, **parts: float | str) -> None:
        self.send("advance", self.number, steps, parts)


class _Replay:
    """The caller's side. ``unfinished`` leaves the phases that a child's error left open, with that error."""

    def __init__(self, progress: Progress, unfinished: ExitStack) -> None:
        self._progress, self._unfinished = progress, unfinished
        self._open: dict[int, tuple[ExitStack, Task]] = {}

    def __call__(self, call: tuple[Any, ...]) -> None:
        what, *arguments = call
        if what == "begin":
            number, name, total = arguments
            stack = self._unfinished.enter_context(ExitStack())
            self._open[number] = (stack, stack.enter_context(self._progress.phase(name, total)))
        elif what == "advance":
            number, steps, parts = arguments
            self._open[number][1].advance(steps, **parts)
        elif what == "end":
            self._open.pop(arguments[0])[0].close()
        else:
            getattr(self._progress, what)(*arguments)


# ---- in a child ----


def serve(descriptor: int) -> None:
    """A child's whole life: take the work, do it, answer."""
    try:
        # A caller that a shell started in its background ignores this signal, and its children would as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        connection = Connection(descriptor)
        function, config, filters = pickle.loads(connection.recv_bytes())  # noqa: S301 - our own caller's
        warnings.filters[:] = filters  # type: ignore[index]
        Thread(target=_watch_caller, args=(connection,), daemon=True).start()
        code = _answer(connection, function, config)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.stderr.flush()
    # Not by sys.exit: a backend's threads may still wait for processes that have ended.
    os._exit(code)


def _answer(connection: Connection, function: Callable[[Any, Progress], Any], config: Any) -> int:
    try:
        result = function(config, _Relay(connection) if is_main() else SILENT)
        if is_main():
            connection.send(("result", result))
        leave()
        return 0
    except Exception as error:
        connection.send(("error", (_portable(error), f"in process {rank()} of {world_size()}:\n{format_exc()}")))
        return 1


def _portable(error: Exception) -> Exception:
    """``error`` as the caller can read it, who has not imported every library that may raise one."""
    if not isinstance(error, RoraError):
        return RuntimeError(f"{type(error).__name__}: {error}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
        return error
    except Exception:  # a class that takes something else than its message
        plain = RoraError(str(error))
        plain.exit_code = error.exit_code
        return plain


def _watch_caller(connection: Connection) -> None:
    """Interrupt this process when the caller has gone: it sends nothing more, so only its end can be read here."""
    with suppress(EOFError, OSError):
        connection.recv_bytes()
    os.kill(os.getpid(), signal.SIGINT)
    sleep(_AFTER_INTERRUPT)
    os._exit(_INTERRUPTED)
