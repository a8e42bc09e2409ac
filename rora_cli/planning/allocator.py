"""What memory a sequence of allocations takes in the end: a CPU's allocator does not give back all that is freed.

glibc serves pieces below a threshold from one heap, and the threshold grows to 32 MiB as larger pieces are freed. So
nearly all activations of a small model lie in the heap, and what is freed below a piece that lives on stays in the
process. Larger pieces are mapped by themselves and given back at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Size [bytes] from which a piece is always mapped by itself (glibc's DEFAULT_MMAP_THRESHOLD_MAX).
MAPPED = 32 << 20
#: What the heap takes for each byte that lives in it at the peak, forward and where a backward pass follows: measured,
#: see docs/planning.md.
HEAP_SLACK, TRAINED_SLACK = 1.55, 1.65


@dataclass(frozen=True)
class Event:
    """A piece of ``size`` bytes is taken, or, with size 0, given back; ``key`` names it."""

    key: int
    size: int


#: The most bytes that are taken at once in each part of a step.
Peaks = tuple[float, ...]


def peaks_of(events: Sequence[Event], parts: Sequence[int] = (), *, heap: bool, trained: bool = False) -> Peaks:
    """The most bytes that the events take at once, in each of the parts that begin at these numbers of events.

    ``heap`` adds what a CPU's heap keeps beside them, in a step that is ``trained`` if a backward pass is among them.
    """
    slack = 1.0 if not heap else TRAINED_SLACK if trained else HEAP_SLACK
    taken: dict[int, float] = {}
    now, peaks = 0.0, [0.0] * (len(parts) + 1)
    for number, event in enumerate(events):
        part = sum(start <= number for start in parts)
        if event.size:
            taken[event.key] = event.size * (slack if event.size < MAPPED else 1.0)
            now += taken[event.key]
            peaks[part] = max(peaks[part], now)
        else:
            now -= taken.pop(event.key)
    return tuple(peaks)
