"""How a command tells what it is doing, without knowing who listens: a terminal, a log file, or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running phase."""

    def advance(self, steps: int = 1, **parts: float | str) -> None:
        """Report ``steps`` more done; ``parts`` are shown beside the bar (loss parts, accuracy)."""


class Progress(Protocol):
    """The listener that a command is given."""

    def phase(self, name: str, total: int | None = None) -> AbstractContextManager[Task]:
        """A phase of ``total`` steps, where that is known; the task inside takes them."""

    def note(self, message: str) -> None:
        """Say something worth knowing, once."""

    def warn(self, message: str) -> None:
        """Say something that may make the result worse or weaker than the user thinks."""


class _SilentTask:
    def advance(self, steps: int = 1, **parts: float | str) -> None:
        pass


class Silent:
    """Listens to nothing: the default of the Python API."""

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Task]:
        yield _SilentTask()

    def note(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT: Progress = Silent()
