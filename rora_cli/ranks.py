"""The number of this process and how many there are, as the launcher states them, and how they divide a work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from rora_cli.errors import RoraError

#: Environment variables with the rank. torchrun, accelerate and rora set the first; mpirun's libraries set the others.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "LOCAL_RANK")
_WORLDS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


Part = TypeVar("Part")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Share:
    """This process's place among those that do a work together; as it stands, alone.

    Attributes:
        rank: the number of this process, of ``processes``.
        gather: hands over a picklable value and returns those of all processes, by rank. All must call it together.
    """

    rank: int = 0
    processes: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]

    def each(
        self,
        parts: Sequence[Part],
        work: Callable[[Part], Value],
        *,
        after: Callable[[Sequence[Part]], None] | None = None,
    ) -> list[Value]:
        """``work`` of every part, in the order of the ``parts``, which all processes give alike and get alike.

        In each round every process works on one part, and ``after`` is then told the parts of the round. All call
        ``work`` equally often, because the forward passes of a sharded model need every process: in the last round one
        that finds no part left repeats another's. A single part is not worth handing over: each works on it for itself.

        Raises:
            RoraError: the first that ``work`` raised, by the order of the parts, on every process.
        """
        processes = self.processes if len(parts) > 1 else 1
        rank = self.rank if processes > 1 else 0
        mine: list[Value | RoraError] = []
        for start in range(0, len(parts), processes):
            together = parts[start : start + processes]
            mine.append(outcome_of(partial(work, together[min(rank, len(together) - 1)])))
            if after is not None:
                after(together)
        everyone = self.gather(mine[: len(parts[rank::processes])]) if processes > 1 else [mine]
        done = [everyone[number % processes][number // processes] for number in range(len(parts))]
        if errors := [outcome for outcome in done if isinstance(outcome, RoraError)]:
            raise errors[0]
        return [outcome for outcome in done if not isinstance(outcome, RoraError)]


#: The share of a process that has no others beside it.
ALONE = Share()


def outcome_of(work: Callable[[], Value]) -> Value | RoraError:
    """What ``work`` gives, or the error for the user that it raises, which the other processes have to hear of."""
    try:
        return work()
    except RoraError as error:
        return error


def rank() -> int:
    """The number of this process, from 0; 0 if the environment states none."""
    return _first_number(_RANKS, 0)


def world_size() -> int:
    """How many processes work together; 1 if the environment does not say."""
    return max(1, _first_number(_WORLDS, 1))


def is_main() -> bool:
    """Whether this process is the one that shows progress and writes files: rank 0, or the only one."""
    return rank() == 0


def leave_group() -> None:
    """Remove the launcher's variables from the environment, so that this process goes on alone."""
    for name in (*_RANKS, *_WORLDS, "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK"):
        os.environ.pop(name, None)


def _first_number(names: Sequence[str], default: int) -> int:
    for name in names:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return default
