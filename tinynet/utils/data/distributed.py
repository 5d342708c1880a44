"""Each rank's part of a data set (torch.utils.data.distributed)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np

from ... import distributed
from .sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index of the data set, from the `rank`-th on: torch's sequence, number by number.

    All ranks have equally many: the first indices are used again to make it even, or with `drop_last` the last
    left out. The order is new for each epoch that `set_epoch` names, and the same on all ranks.

    Args:
        dataset: anything with a length.
        num_replicas, rank: default: the process group's.
        shuffle, seed: whether and from where the order is random.
    """

    def __init__(self, dataset: Sized, num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True,
                 seed: int = 0, drop_last: bool = False) -> None:
        num_replicas = distributed.get_world_size() if num_replicas is None else num_replicas
        rank = distributed.get_rank() if rank is None else rank
        if not 0 <= rank < num_replicas:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset: Any = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.drop_last = drop_last
        size = len(dataset)
        if drop_last and size % num_replicas:
            self.num_samples = math.ceil((size - num_replicas) / num_replicas)
        else:
            self.num_samples = math.ceil(size / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        size = len(self.dataset)
        indices = _permutation(size, self.seed + self.epoch) if self.shuffle else list(range(size))
        if len(indices) < self.total_size:
            indices = (indices * math.ceil(self.total_size / max(1, size)))[: self.total_size]
        return iter(indices[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; without it all passes have the same."""
        self.epoch = epoch


def _permutation(size: int, seed: int) -> list[int]:
    """torch.randperm(size) from a generator with this seed: Fisher and Yates over MT19937's 32-bit numbers."""
    generator = np.random.RandomState(seed % 2**32)
    draws = generator.randint(0, 2**32, size=max(0, size - 1), dtype=np.uint32).tolist()
    indices = list(range(size))
    for place, draw in enumerate(draws):
        other = place + draw % (size - place)
        indices[place], indices[other] = indices[other], indices[place]
    return indices
