"""How a command reports what it is doing, without knowing who listens: a terminal, a log file, or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running phase."""

    def advance(self, steps: int = 1, **parts: float | str) -> None:
        """Report that ``steps`` more are done; ``parts`` (loss, accuracy) are shown beside the bar."""


class Progress(Protocol):
    """The listener that a command is given."""

    def phase(self, name: str, total: int | None = None) -> AbstractContextManager[Task]:
        """A phase of ``total`` steps (None: unknown); the task inside counts them."""

    def note(self, message: str) -> None:
        """Tell the user something worth knowing, once."""

    def warn(self, message: str) -> None:
        """Tell the user that the result may be worse or weaker than he thinks, and why."""


class _SilentTask:
    def advance(self, steps: int = 1, **parts: float | str) -> None:
        pass


class Silent:
    """Listens to nothing: the default of the Python API."""

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Task]:
        """A phase that nobody sees."""
        yield _SilentTask()

    def note(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""


SILENT: Progress = Silent()
