from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rora_cli.training.batches import epoch_batches, micro_batches, rank_share, steps_per_epoch


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_every_row_once_and_as_many_batches_as_said(lengths: list[int], size: int, epoch: int) -> None:
    batches = epoch_batches(lengths, size, seed=1, epoch=epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == steps_per_epoch(len(lengths), size)
    assert max(map(len, batches)) <= size


def test_grouping_leaves_little_padding() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, 4096).tolist()

    def padded(batches: list[list[int]]) -> int:
        return sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)

    shuffled = np.random.default_rng(1).permutation(4096).reshape(-1, 32).tolist()
    assert padded(epoch_batches(lengths, 32, seed=0, epoch=0)) < 1.2 * sum(lengths) < 0.5 * padded(shuffled)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = list(range(1, 200))
    first = epoch_batches(lengths, 8, seed=0, epoch=0)
    assert first == epoch_batches(lengths, 8, seed=0, epoch=0)
    assert first != epoch_batches(lengths, 8, seed=0, epoch=1)
    assert first != epoch_batches(lengths, 8, seed=1, epoch=0)


@given(st.integers(0, 40), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 9)))
def test_shares_and_micro_batches_partition_a_batch(rows: int, processes: int, micro: int | None) -> None:
    batch = list(range(rows))
    shares = [rank_share(batch, rank, processes) for rank in range(processes)]
    pieces = [piece for share in shares for piece in micro_batches(share, micro)]
    assert sorted(i for piece in pieces for i in piece) == batch
    assert all(micro is None or len(piece) <= micro for piece in pieces)
