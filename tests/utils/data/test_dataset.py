"""Data sets, samplers and collation: torch's batches and types, explained refusals."""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import tinynet
from tinynet.random import Generator
from tinynet.utils.data import (
    BatchSampler,
    ConcatDataset,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)

Point = namedtuple("Point", ["x", "y"])


def test_tensor_dataset():
    x, y = tinynet.arange(12).reshape(4, 3), tinynet.arange(4)
    dataset = TensorDataset(x, y)
    assert len(dataset) == 4
    row, label = dataset[2]
    assert row.tolist() == [6, 7, 8] and label.item() == 2
    with pytest.raises(ValueError, match=r"\[4, 3\]"):
        TensorDataset(x, y[:3])


def test_subset_and_concatenation():
    numbers = TensorDataset(tinynet.arange(10))
    subset = Subset(numbers, [7, 1, 3])
    assert [subset[i][0].item() for i in range(len(subset))] == [7, 1, 3]
    assert [sample[0].item() for sample in subset.__getitems__([2, 0])] == [3, 7]
    nested = Subset(subset, [2])
    assert [sample[0].item() for sample in nested.__getitems__([0])] == [3]
    joined = subset + numbers
    assert isinstance(joined, ConcatDataset) and len(joined) == 13
    assert [joined[i][0].item() for i in (0, 2, 3, 12, -1, -13)] == [7, 3, 0, 9, 9, 7]
    for index, kind in ((13, IndexError), (-14, ValueError)):
        with pytest.raises(kind, match="out of range for 13 samples"):
            joined[index]
    with pytest.raises(ValueError, match="at least one"):
        ConcatDataset([])
    with pytest.raises(TypeError, match="number 1"):
        ConcatDataset([numbers, IterableDataset()])


def test_missing_methods_are_named():
    class Empty(Dataset):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define __getitem__"):
        Empty()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(IterableDataset())
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(Sampler())
    with pytest.raises(TypeError, match="streams"):
        IterableDataset() + Empty()


def test_random_split():
    parts = random_split(range(10), [7, 3], Generator().manual_seed(1))
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(part[i] for part in parts for i in range(len(part))) == list(range(10))
    again = random_split(range(10), [7, 3], Generator().manual_seed(1))
    assert [part.indices for part in parts] == [part.indices for part in again]
    with pytest.raises(ValueError, match="sum to 9, the data set has 10"):
        random_split(range(10), [6, 3])
    with pytest.raises(ValueError, match=r"share 0 is 1\.5"):
        random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="part 1"):
        assert [len(part) for part in random_split(range(1), [0.5, 0.5])] == [1, 0]


@pytest.mark.torch
@pytest.mark.parametrize("size, shares", [
    (10, [0.5, 0.5]), (11, [0.3, 0.3, 0.4]), (7, [0.9, 0.1]), (100, [1.0]), (11, [1 / 3] * 3),
])
def test_shares_are_rounded_as_in_torch(size, shares):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [len(part) for part in torch.utils.data.random_split(range(size), shares)]
        assert [len(part) for part in random_split(range(size), shares)] == expected


def test_samplers():
    data = range(10)
    assert list(SequentialSampler(data)) == list(range(10))
    sampler = RandomSampler(data, generator=Generator().manual_seed(0))
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert list(RandomSampler(data, generator=Generator().manual_seed(0))) == first
    longer = list(RandomSampler(data, num_samples=23))
    assert len(longer) == 23 and sorted(longer[:10]) == sorted(longer[10:20]) == list(range(10))
    drawn = list(RandomSampler(data, replacement=True, num_samples=50))
    assert len(drawn) == 50 and set(drawn) <= set(range(10))
    assert sorted(SubsetRandomSampler([3, 9, 4])) == [3, 4, 9]
    batches = BatchSampler(SequentialSampler(data), 4, False)
    assert list(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and len(batches) == 3
    batches = BatchSampler(SequentialSampler(data), 4, True)
    assert list(batches) == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(batches) == 2


def test_a_pass_takes_one_number_from_the_default_generator():
    states = []
    for size in (5, 5000):
        tinynet.manual_seed(0)
        list(RandomSampler(range(size)))
        states.append(tinynet.get_rng_state().tolist())
    assert states[0] == states[1]
    tinynet.manual_seed(0)
    assert list(RandomSampler(range(50))) != list(RandomSampler(range(50)))


@pytest.mark.parametrize("make, message", [
    (lambda: RandomSampler([]), "size of the data set"),
    (lambda: RandomSampler(range(3), num_samples=0), "got 0"),
    (lambda: BatchSampler(range(3), 0, False), "batch_size must be a positive integer, got 0"),
    (lambda: BatchSampler(range(3), True, False), "batch_size"),
    (lambda: BatchSampler(range(3), 2, "no"), "drop_last"),
])
def test_sampler_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


BATCHES = {
    "arrays": [np.float32([1, 2]), np.float32([3, 4])],
    "uint8 arrays": [np.uint8([1, 2]), np.uint8([3, 4])],
    "scalars": [np.array(1.5), np.array(2.5)],
    "ints": [1, 2],
    "floats": [1.0, 2.5],
    "bools": [True, False],
    "numpy float32": [np.float32(1), np.float32(2)],
    "numpy float64": [np.float64(1), np.float64(2)],
    "numpy int": [np.int32(1), np.int32(2)],
    "numpy bool": [np.bool_(True), np.bool_(False)],
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "tuples": [(np.ones(2), 3, "x"), (np.zeros(2), 4, "y")],
    "lists": [[1, 2.0], [3, 4.0]],
    "dicts": [{"image": np.ones((1, 2)), "label": 3}, {"image": np.zeros((1, 2)), "label": 4}],
    "ordered dicts": [OrderedDict(a=1, b=2.0), OrderedDict(a=3, b=4.0)],
    "named tuples": [Point(1, np.ones(1)), Point(2, np.zeros(1))],
    "nested": [{"boxes": (np.ones(4), [1, {"deep": 2.0}])}] * 3,
}


def described(value):
    """Types, dtypes and values of a batch, in words that both frameworks share."""
    if hasattr(value, "numpy"):
        return ("tensor", str(value.dtype).split(".")[1], tuple(value.shape), value.tolist())
    if isinstance(value, dict):
        return (type(value), [(key, described(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [described(item) for item in value])
    return value


@pytest.mark.torch
@pytest.mark.parametrize("name", BATCHES)
def test_collate_and_convert_are_torchs(name):
    torch = pytest.importorskip("torch")
    batch = BATCHES[name]
    assert described(default_collate(batch)) == described(torch.utils.data.default_collate(batch))
    assert described(default_convert(batch[0])) == described(torch.utils.data.default_convert(batch[0]))


def test_tensors_are_stacked_and_keep_their_dtype():
    batch = default_collate([tinynet.ones(2, 3, dtype=tinynet.float64), tinynet.zeros(2, 3, dtype=tinynet.float64)])
    assert batch.shape == (2, 2, 3) and batch.dtype == tinynet.float64
    leaf = tinynet.ones(2, requires_grad=True)
    default_collate([leaf, leaf * 2]).sum().backward()
    assert leaf.grad.tolist() == [3.0, 3.0]


def test_a_batch_does_not_alias_its_samples():
    samples = [tinynet.zeros(3)]
    default_collate(samples).add_(1)
    assert samples[0].tolist() == [0, 0, 0]


def test_unequal_shapes_are_explained():
    with pytest.raises(ValueError) as caught:
        default_collate([(np.zeros((3, 4)), 0), (np.zeros((3, 4)), 1), (np.zeros((3, 5)), 2)])
    message = str(caught.value)
    for part in ("samples[0]", "sample 0 has (3, 4)", "sample 2 has (3, 5)", "collate_fn"):
        assert part in message
    with pytest.raises(ValueError, match=r"equal lengths, but sample 0 has 1 and sample 1 has 2"):
        default_collate([[1], [1, 2]])


def test_what_cannot_be_stacked_is_named():
    with pytest.raises(TypeError, match=r"samples\['when'\] are object"):
        default_collate([{"when": object()}])
    with pytest.raises(TypeError, match="<U1"):
        default_collate([np.array(["a"])])
