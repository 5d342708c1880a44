"""DistributedSampler gives torch's indices."""

from __future__ import annotations

import itertools

import pytest

import tinynet
from tinynet import distributed as dist
from tinynet.utils.data import DataLoader, DistributedSampler, TensorDataset


@pytest.mark.torch
@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 1437])
def test_it_gives_torch_s_indices(size):
    pytest.importorskip("torch")
    from torch.utils.data.distributed import DistributedSampler as Theirs

    for ranks, shuffle, drop_last in itertools.product((1, 2, 3, 7), (True, False), (True, False)):
        if drop_last and size < ranks:
            continue  # torch: a negative number of samples
        for rank, (seed, epoch) in itertools.product(range(ranks), ((0, 0), (3, 5), (2**32 + 5, 1))):
            theirs = Theirs(range(size), ranks, rank, shuffle, seed, drop_last)
            ours = DistributedSampler(range(size), ranks, rank, shuffle, seed, drop_last)
            theirs.set_epoch(epoch)
            ours.set_epoch(epoch)
            assert list(ours) == list(theirs) and len(ours) == len(theirs)


def test_known_indices():
    """torch 2.13: DistributedSampler(range(10), 2, 0, seed=1), epoch 0."""
    parts = [list(DistributedSampler(range(10), 2, rank, seed=1)) for rank in range(2)]
    assert parts == [[5, 1, 0, 9, 7], [6, 2, 8, 3, 4]]
    assert sorted(parts[0] + parts[1]) == list(range(10))


def test_it_takes_rank_and_number_from_the_group():
    with pytest.raises(ValueError, match="has not been initialized"):
        DistributedSampler(range(4))
    with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval \[0, 1\]"):
        DistributedSampler(range(4), 2, 2)
    dist.init_process_group()
    try:
        dataset = TensorDataset(tinynet.arange(5))
        loader = DataLoader(dataset, batch_size=2, sampler=DistributedSampler(dataset, shuffle=False))
        assert [batch[0].tolist() for batch in loader] == [[0, 1], [2, 3], [4]]
    finally:
        dist.destroy_process_group()
