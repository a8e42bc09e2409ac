"""The number of this process and how many there are, as the launcher states them in the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence

#: Environment variables with the rank. torchrun, accelerate and rora set the first; mpirun's libraries set the others.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "LOCAL_RANK")
_WORLDS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


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
