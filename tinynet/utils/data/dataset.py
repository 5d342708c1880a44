"""Data sets: anything with `__getitem__` and `__len__`, or an iterable of samples."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from ...errors import ShapeError
from ...random import Generator, default_generator
from ...tensor import Tensor

T = TypeVar("T", covariant=True)


class Dataset(Generic[T]):
    """Samples by index: a subclass defines `__getitem__(index)` and usually `__len__()`."""

    def __getitem__(self, index: Any) -> T:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """Samples from a stream: a subclass defines `__iter__()`.

    Every data-loader worker iterates over its own copy; `get_worker_info()` tells it which part is its.
    """

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        raise TypeError("streams cannot be concatenated by index; chain their iterators instead")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is the tuple of the i-th rows of all tensors, which have equal first sizes (ShapeError)."""

    def __init__(self, *tensors: Tensor) -> None:
        sizes = [tensor.size(0) for tensor in tensors]
        if len(set(sizes)) > 1:
            raise ShapeError(f"TensorDataset: the tensors have different numbers of rows: {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].size(0)


class Subset(Dataset[T]):
    """The samples of `dataset` at `indices`."""

    def __init__(self, dataset: Dataset[T], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T]:
        several = getattr(self.dataset, "__getitems__", None)
        if callable(several):
            return several([self.indices[i] for i in indices])
        return [self.dataset[self.indices[i]] for i in indices]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T]):
    """Data sets one after the other; negative indices count from the end of the last."""

    def __init__(self, datasets: Iterable[Dataset[T]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: needs at least one data set")
        for i, dataset in enumerate(self.datasets):
            if isinstance(dataset, IterableDataset):
                raise TypeError(f"ConcatDataset: number {i} is an IterableDataset, which has no indices")
        self.cumulative_sizes = list(accumulate(len(dataset) for dataset in self.datasets))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> T:
        if index < -len(self):
            raise ValueError(f"ConcatDataset: index {index} is out of range for {len(self)} samples")
        if index < 0:
            index += len(self)
        part = bisect_right(self.cumulative_sizes, index)
        if part == len(self.datasets):
            raise IndexError(f"ConcatDataset: index {index} is out of range for {len(self)} samples")
        return self.datasets[part][index - (self.cumulative_sizes[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Dataset[T], lengths: Sequence[int | float],
                 generator: Generator = default_generator) -> list[Subset[T]]:
    """Random, non-overlapping subsets of the given lengths, or of the given shares if these sum to 1.

    Of samples that the rounded-down shares leave over, the first subsets get one each.
    Raises ValueError where the lengths do not sum to the size of the data set.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        lengths = _lengths_of_shares(size, lengths)
    if sum(lengths) != size:
        raise ValueError(f"random_split: the lengths {list(lengths)} sum to {sum(lengths)}, the data set has "
                         f"{size} samples")
    order = generator.numpy.permutation(size).tolist()
    ends = accumulate(int(length) for length in lengths)
    return [Subset(dataset, order[end - int(length):end]) for end, length in zip(ends, lengths)]


def _lengths_of_shares(size: int, shares: Sequence[float]) -> list[int]:
    for i, share in enumerate(shares):
        if not 0 <= share <= 1:
            raise ValueError(f"random_split: share {i} is {share}, not between 0 and 1")
    lengths = [math.floor(size * share) for share in shares]
    for i in range(size - sum(lengths)):
        lengths[i % len(lengths)] += 1
    for i, length in enumerate(lengths):
        if length == 0:
            warnings.warn(f"random_split: part {i}, {shares[i]} of {size} samples, is empty", stacklevel=3)
    return lengths
