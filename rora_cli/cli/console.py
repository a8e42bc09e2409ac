"""Where things are printed: results on stdout, progress, notes and errors on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from rora_cli.errors import OutputError
from rora_cli.ranks import is_main

if TYPE_CHECKING:
    from rich.console import Console

    from rora_cli.progress import Progress, Task


def stderr_console() -> Console:
    """A console on stderr. NO_COLOR is honoured by rich; a file or pipe gets plain lines of at most 80 columns."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=False)


def print_result(text: str) -> None:
    """Write a rendered result to stdout, whole.

    Raises OutputError where stdout takes no more, as a file on a full disk; BrokenPipeError where its reader went away.
    """
    if not is_main():
        return
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise OutputError(
            f"the report could not be written to stdout ({error.strerror}); send it to a place with room"
        ) from error


def drop_stdout() -> None:
    """Let what is left in stdout's buffer go nowhere, since Python writes it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_progress(quiet: bool) -> Progress:
    """Bars on a terminal, dated lines in a log file, nothing under ``--quiet`` or on other ranks than 0."""
    from rora_cli.progress import SILENT

    if quiet or not is_main():
        # huggingface_hub reads this when it is imported, which no command has done yet.
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        return SILENT
    console = stderr_console()
    return TerminalProgress(console) if console.is_terminal else LogProgress()


def _plain(parts: dict[str, float | str]) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in parts.items())


class TerminalProgress:
    """Rich bars: one line a phase, with step rate, time left and the loss parts."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Task]:
        """A bar of its own, of ``total`` steps; without a total it counts up."""
        from rich.markup import escape
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.text import Text

        class Counted(MofNCompleteColumn):
            """Steps done of all; those done alone where nobody knows how many there will be."""

            def render(self, task: Any) -> Text:
                done = f"{int(task.completed)}" if task.completed else ""
                return super().render(task) if task.total is not None else Text(done, style="progress.download")

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            Counted(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[parts]}"),
        )
        with Progress(*columns, console=self._console, transient=False) as progress:
            task = _TerminalTask(progress, progress.add_task(escape(name), total=total, rate="", parts=""))
            yield task
            task.finish()

    def note(self, message: str) -> None:
        """A line that stays above the bars."""
        self._print(message)

    def warn(self, message: str) -> None:
        """A yellow line that stays above the bars."""
        self._print(f"warning: {message}", style="yellow")

    def _print(self, message: str, style: str | None = None) -> None:
        from rora_cli.reports.text import safe

        self._console.print(safe(message, max_length=2000), style=style, markup=False)


class _TerminalTask:
    def __init__(self, progress: object, task_id: int) -> None:
        self._progress, self._id, self._start, self._done = progress, task_id, monotonic(), 0

    def advance(self, steps: int = 1, **parts: float | str) -> None:
        from rich.markup import escape

        self._done += steps
        rate = self._done / max(monotonic() - self._start, 1e-9)
        fields = {"parts": escape(_plain(parts))} if parts else {}
        self._progress.update(self._id, advance=steps, rate=f"{rate:.3g}/s", **fields)  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Show the phase as done; one that counts nothing has been one step."""
        self._progress.update(self._id, total=max(self._done, 1), completed=max(self._done, 1))  # type: ignore[attr-defined]


class LogProgress:
    """Plain lines for a log file: one when a phase starts, one every ten seconds, one when it ends."""

    every_seconds = 10.0

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Task]:
        """A line when it starts, one every ten seconds, one when it ends."""
        start = monotonic()
        _line(f"{name} ...")
        task = _LogTask(name, total, start, self.every_seconds)
        yield task
        _line(f"{name}: done in {monotonic() - start:.1f} s{task.tail()}")

    def note(self, message: str) -> None:
        """A line of the log."""
        _line(message)

    def warn(self, message: str) -> None:
        """A line of the log that says that it is a warning."""
        _line(f"warning: {message}")


class _LogTask:
    def __init__(self, name: str, total: int | None, start: float, every: float) -> None:
        self._name, self._total, self._start, self._every = name, total, start, every
        self._done, self._last, self._parts = 0, start, ""

    def tail(self) -> str:
        from rora_cli.reports.text import count

        return f" ({count(self._done, 'step')}{', ' + self._parts if self._parts else ''})" if self._done else ""

    def advance(self, steps: int = 1, **parts: float | str) -> None:
        self._done += steps
        if parts:
            self._parts = _plain(parts)
        now = monotonic()
        if now - self._last >= self._every:
            self._last = now
            rate = self._done / max(now - self._start, 1e-9)
            left = f", {max(self._total - self._done, 0) / rate:.0f} s left" if self._total else ""
            of = f"/{self._total}" if self._total else ""
            _line(f"{self._name}: {self._done}{of}  {rate:.3g}/s{left}  {self._parts}".rstrip())


def _line(text: str) -> None:
    from rora_cli.reports.text import safe

    print(safe(text, max_length=2000), file=sys.stderr, flush=True)
