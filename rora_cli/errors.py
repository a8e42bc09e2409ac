"""What can go wrong, and the exit code that each kind gives.

Every message is one sentence that says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command. An error outranks a finding."""

    OK = 0  #: done, nothing at or above the threshold
    FINDINGS = 1  #: findings at or above ``--fail-on``, or a gate that was not met
    BAD_INPUT = 2  #: usage error or bad input; nothing was written
    INCONCLUSIVE = 3  #: something could not be analysed, so nothing is proven


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


class InconclusiveError(RoraError):
    """The question cannot be answered from what was given: never to be read as "clean"."""

    exit_code = ExitCode.INCONCLUSIVE
