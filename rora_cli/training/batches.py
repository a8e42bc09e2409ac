"""How rows are divided into batches: shuffled, of similar length, and the same for every number of processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Batches in a window of shuffled rows. Rows are sorted by length within a window: little padding, yet well mixed.
WINDOW_BATCHES = 32


def epoch_batches(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The row indices of each global batch of one epoch; the same arguments always give the same.

    ``lengths`` [rows] are in tokens. Rows are shuffled, cut into windows, sorted by length within each window and cut
    into batches, and the batches are shuffled. Only the last window can leave a batch smaller than ``batch_size``.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    size = np.asarray(lengths)
    batches = []
    for start in range(0, len(order), batch_size * WINDOW_BATCHES):
        window = order[start : start + batch_size * WINDOW_BATCHES]
        window = window[np.argsort(size[window], kind="stable")]
        batches += [window[i : i + batch_size].tolist() for i in range(0, len(window), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def rank_share(batch: Sequence[int], rank: int, processes: int) -> list[int]:
    """The rows of a global batch that process ``rank`` works on: every ``processes``-th, so that lengths are alike."""
    return list(batch[rank::processes])


def micro_batches(rows: Sequence[int], size: int | None) -> list[list[int]]:
    """Cut a process's rows into pieces of at most ``size`` for gradient accumulation; without a size, into one piece.

    There is always a piece: an empty one for no rows.
    """
    if size is None or len(rows) <= size:
        return [list(rows)]
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """How many global batches an epoch has; the last may be smaller."""
    return -(-rows // batch_size)


def epochs_of(steps: int, rows: int, batch_size: int) -> int:
    """How many whole epochs have at least that many steps."""
    return -(-steps // steps_per_epoch(rows, batch_size))
