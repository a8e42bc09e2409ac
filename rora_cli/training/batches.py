"""Which rows go into which batch: shuffled, of similar length, the same for every number of processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Batches are cut from windows of this many batches, sorted by length: little padding, yet well mixed.
WINDOW_BATCHES = 32


def epoch_batches(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The row indices of each global batch of one epoch; depends on nothing but the arguments.

    Rows are shuffled, cut into windows, sorted by length within each window and cut into batches, which are shuffled
    again. Only the epoch's last window can leave a batch smaller than ``batch_size``.
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
    """This process's rows of a global batch: every ``processes``-th one, so that all shares are of similar length."""
    return list(batch[rank::processes])


def micro_batches(rows: Sequence[int], size: int | None) -> list[list[int]]:
    """Cut a process's share into pieces for gradient accumulation; one piece, even empty, where ``size`` is None."""
    if size is None or len(rows) <= size:
        return [list(rows)]
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    return -(-rows // batch_size)
