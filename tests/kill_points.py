"""SIGKILL at a line of code, not at a time: on a busy machine a clock's points all fall before or behind the work."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

#: Whether the lines of a source file count.
Watched = Callable[[str], bool]


def lines_run(child: Callable[[], object], watched: Watched, kill_at: int | None = None) -> int | None:
    """Run ``child`` in a fork that is killed before the ``kill_at``-th line of the watched files.

    Returns how many of their lines it ran, or None where it was killed. A child that fails by itself fails the test.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _in_child(child, watched, kill_at, writer)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reader) as stream:
        text = stream.read()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, f"the run failed by itself (status {status}): its traceback is above"
    return int(text)


def _in_child(child: Callable[[], object], watched: Watched, kill_at: int | None, writer: int) -> None:
    count = 0
    known: dict[str, bool] = {}

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        if name not in known:
            known[name] = watched(name)
        if not known[name]:
            return None
        count += event == "line"
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    code = 1
    try:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # OpenMP's team does not survive a fork
        sys.settrace(trace)
        child()
        sys.settrace(None)
        os.write(writer, str(count).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
