"""From a list of samples to one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ...functions import stack
from ...tensor import Tensor, as_tensor


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples stacked along a new first axis, level by level (torch.utils.data.default_collate).

    Tensors and arrays become a tensor (N, ...); ints an int64 and floats a float64 tensor (N,); strings and
    bytes stay as they are; dicts, named tuples and lists keep their type and tuples become lists of such batches.

    Raises:
        ShapeError: tensors or sequences of different sizes; says which samples.
        TypeError: anything else; give the DataLoader a `collate_fn` of your own.
    """
    return _collate(batch, "")


def _collate(batch: Sequence[Any], place: str) -> Any:
    first = batch[0]
    if isinstance(first, (Tensor, np.ndarray)):
        return _stacked(batch, place)
    if isinstance(first, (np.bool_, np.number)):
        return as_tensor(np.array(batch))
    if isinstance(first, float):
        return as_tensor(np.array(batch, np.float64))
    if isinstance(first, int):
        return as_tensor(np.array(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _rebuilt_mapping(first, {key: _collate([sample[key] for sample in batch], f"{place}[{key!r}]")
                                        for key in first})
    if isinstance(first, Sequence):
        lengths = [len(sample) for sample in batch]
        _check_equal(lengths, "lengths", place)
        columns = [_collate(column, f"{place}[{i}]") for i, column in enumerate(zip(*batch))]
        return _rebuilt_sequence(first, columns)
    raise TypeError(f"default_collate: samples{place} are {type(first).__name__}; they must be tensors, "
                    "arrays, numbers, strings, dicts, tuples or lists (convert them, or give a collate_fn)")


def _stacked(batch: Sequence[Any], place: str) -> Tensor:
    if isinstance(batch[0], np.ndarray) and batch[0].dtype.kind in "SUaO":
        raise TypeError(f"default_collate: samples{place} are arrays of {batch[0].dtype}, not of numbers")
    tensors = [as_tensor(sample) for sample in batch]
    _check_equal([tuple(tensor._array.shape) for tensor in tensors], "shapes", place)
    if any(tensor.requires_grad for tensor in tensors):
        return stack(tensors)
    if len({tensor._array.dtype for tensor in tensors}) > 1:
        return stack(tensors)  # knows torch's promotion
    return as_tensor(np.stack([tensor._array for tensor in tensors]))


def _check_equal(sizes: list[Any], what: str, place: str) -> None:
    for i, size in enumerate(sizes):
        if size != sizes[0]:
            raise ShapeError(f"default_collate: samples{place} of a batch need equal {what}, but sample 0 "
                             f"has {sizes[0]} and sample {i} has {size}; resize or pad them, or give a "
                             "collate_fn")


def default_convert(data: Any) -> Any:
    """One sample with its arrays made tensors, for a DataLoader without batches (`batch_size=None`)."""
    if isinstance(data, np.ndarray):
        return data if data.dtype.kind in "SUaO" else as_tensor(data)
    if isinstance(data, (np.bool_, np.number)):
        return as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuilt_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuilt_sequence(data, [default_convert(value) for value in data])
    return data


def _rebuilt_mapping(original: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    def fill() -> Any:
        if not isinstance(original, MutableMapping):
            return type(original)(values)  # type: ignore[call-arg]
        clone = copy.copy(original)
        clone.update(values)
        return clone

    return values if type(original) is dict else _try(fill, values)


def _rebuilt_sequence(original: Sequence[Any], values: list[Any]) -> Any:
    if isinstance(original, tuple):
        return type(original)(*values) if hasattr(original, "_fields") else values  # a plain list, as torch

    def fill() -> Any:
        if not isinstance(original, MutableSequence):
            return type(original)(values)  # type: ignore[call-arg]
        clone = copy.copy(original)
        clone[:] = values
        return clone

    return values if type(original) is list else _try(fill, values)


def _try(fill: Callable[[], Any], fallback: Any) -> Any:
    try:
        return fill()
    except TypeError:  # a class with a constructor of its own
        return fallback
