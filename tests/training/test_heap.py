"""While checkpointing is to save memory, a piece that is freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rora_cli.training.heap import MAPPED_FROM, freed_at_once, give_back

NUMBERS = 2 * MAPPED_FROM
ROOT = Path(__file__).parents[2]


def in_heap(tensor: torch.Tensor) -> bool:
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        line = next(line for line in maps if line.endswith("[heap]\n"))
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    return start <= tensor.data_ptr() < end


def check() -> None:
    """In a process of its own: after much other work, glibc continues its heap elsewhere, where no name tells it."""
    with freed_at_once():
        assert not in_heap(torch.empty(NUMBERS, dtype=torch.uint8))
    assert in_heap(torch.empty(NUMBERS, dtype=torch.uint8))


def resident() -> int:
    with Path("/proc/self/status").open(encoding="utf-8") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def check_holes() -> None:
    """Pieces between which others live on, as after a training: the heap itself gives nothing back."""
    pieces = [torch.ones(30_000) for _ in range(1000)]
    kept = pieces[::2]
    del pieces
    before = resident()
    give_back()
    assert before - resident() > 0.8 * sum(piece.nbytes for piece in kept)
    assert all(piece.sum() == len(piece) for piece in kept)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="trims glibc's heap")
def test_holes_in_the_heap_are_given_back() -> None:
    script = "from tests.training.test_heap import check_holes; check_holes()"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's heap")
def test_large_pieces_are_mapped_inside_and_only_there() -> None:
    script = "from tests.training.test_heap import check; check()"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
