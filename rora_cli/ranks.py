"""Which of how many processes this one is, as whoever started them says in the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence

#: torchrun, accelerate and rora itself set the first; mpirun's libraries the others, which accelerate reads as well.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "LOCAL_RANK")
_WORLDS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def rank() -> int:
    """This process's number, from 0; 0 where nothing says otherwise."""
    return _first_number(_RANKS, 0)


def world_size() -> int:
    """How many processes work together; 1 where nothing says otherwise."""
    return max(1, _first_number(_WORLDS, 1))


def is_main() -> bool:
    """Whether this process speaks and writes: rank 0, or the only one."""
    return rank() == 0


def leave_group() -> None:
    """Forget what a launcher said: this process goes on alone."""
    for name in (*_RANKS, *_WORLDS, "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK"):
        os.environ.pop(name, None)


def _first_number(names: Sequence[str], default: int) -> int:
    for name in names:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return default
