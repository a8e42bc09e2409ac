"""How a command reports what it is doing, without knowing who listens: a terminal, a log file, or nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class Steps:
    """Tells a listener which step of the whole run each phase belongs to: "2/5 search: screen the vocabulary"."""

    def __init__(self, progress: Progress, names: Sequence[str]) -> None:
        self._progress, self._names, self._now = progress, tuple(names), 0

    def begin(self, name: str) -> None:
        """The step ``name`` begins, for the first time or again. Raises ValueError if it is none of the run's."""
        self._now = self._names.index(name)

    def phase(self, name: str, total: int | None = None) -> AbstractContextManager[Task]:
        """A phase of the step that has begun."""
        step = self._names[self._now]
        where = f"{self._now + 1}/{len(self._names)} {step}"
        return self._progress.phase(where if name == step else f"{where}: {name}", total)

    def note(self, message: str) -> None:
        """Pass it on."""
        self._progress.note(message)

    def warn(self, message: str) -> None:
        """Pass it on."""
        self._progress.warn(message)


def in_steps(progress: Progress, names: Sequence[str]) -> Progress:
    """``progress`` with the steps of a run; where nobody listens, nobody counts."""
    return progress if progress is SILENT else Steps(progress, names)


def begin(progress: Progress, name: str) -> None:
    """The step ``name`` of the run begins, if its steps are counted."""
    if isinstance(progress, Steps):
        progress.begin(name)
