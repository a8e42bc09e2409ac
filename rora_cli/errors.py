"""The errors that rora raises, and the exit code of each kind.

Every message is one sentence that says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum
from errno import ENOMEM


class ExitCode(IntEnum):
    """The exit codes of every command. An error outranks a finding, a finding "inconclusive"."""

    OK = 0  #: done, nothing at or above the threshold
    FINDINGS = 1  #: findings at or above ``--fail-on``, or a gate that was not met
    BAD_INPUT = 2  #: usage error or bad input; nothing was written
    INCONCLUSIVE = 3  #: something could not be analysed, so nothing is proven
    INTERNAL = 70  #: a fault of rora's own
    INTERRUPTED = 130  #: Ctrl-C
    CLOSED_PIPE = 141  #: whoever read the output went away


class RoraError(Exception):
    """Base of all errors that rora raises on purpose: ``str(error)`` is the sentence for the user."""

    exit_code: ExitCode = ExitCode.BAD_INPUT


class UsageError(RoraError):
    """An option or argument is out of range, unknown, or contradicts another."""


class CheckpointError(RoraError):
    """A model or adapter cannot or must not be read: missing, malformed, hostile or of the wrong shape."""


class DataError(RoraError):
    """A data set cannot be read, or its columns and labels do not fit the model."""


class HubError(RoraError):
    """The hub did not give what was asked for: unreachable, unknown, gated, or broken on the way."""


class OutputError(RoraError):
    """The result cannot be written: exists already, no space, no permission."""


class TrainingError(RoraError):
    """Training cannot go on: the loss is not finite, or a saved state does not fit this run."""


class ProcessDied(TrainingError):
    """A process of several ended without an answer; ``by_signal`` is the signal that ended it, where one did."""

    def __init__(self, message: str, by_signal: int | None = None) -> None:
        super().__init__(message)
        self.by_signal = by_signal


class NoMemoryError(RoraError):
    """Memory ran out, of the machine or of its GPU."""


class Interrupted(RoraError):
    """The user ended the run; the message says what is kept."""

    exit_code = ExitCode.INTERRUPTED


class InconclusiveError(RoraError):
    """The question cannot be answered from what was given: never to be read as "clean"."""

    exit_code = ExitCode.INCONCLUSIVE


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name, for a sentence: in ASCII, at most 300 characters.

    Libraries quote untrusted files in their messages, so control characters are escaped.
    """
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ascii(text[:300])[1:-1]


#: Words in errors about too little memory without a class of their own: torch's allocators, cuBLAS, and the system.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out: Python's, numpy's, pyarrow's, torch's on any device, the system's."""
    if isinstance(error, MemoryError | NoMemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == ENOMEM:
        return True
    return isinstance(error, OSError | RuntimeError) and any(word in str(error) for word in _OUT_OF_MEMORY)
