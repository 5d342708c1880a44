"""Walks over a file's value: nested dictionaries, lists and tuples with records as leaves."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet import dtypes
from tinynet.checkpoint.torch_files.records import ParameterRecord, TensorRecord, TorchDtype
from tinynet.checkpoint.torch_files.storages import strided
from tinynet.errors import CheckpointError
from tinynet.nn import Parameter
from tinynet.tensor import Size, Tensor
from tinynet.tensor.variable import wrap

DICTIONARIES = (dict, OrderedDict, Counter)
CONTAINERS = (*DICTIONARIES, list, tuple, Size)
LEAVES = (
    type(None), bool, int, float, complex, str, bytes, bytearray, set, TensorRecord, ParameterRecord, TorchDtype,
)  # fmt: skip
MAX_DEPTH = 100
MAX_VALUES = 1_000_000
MAX_NAME_CHARACTERS = 2**24  # of all names together; keys may be long and many tensors lie below one


def check_tree(value: Any) -> list[TensorRecord]:
    """The tensors in `value`. Raises CheckpointError for values that those who walk over them would choke on:

    nesting deeper than MAX_DEPTH, a container inside itself, or more than MAX_VALUES values when containers
    mentioned several times are counted each time ("billion laughs").
    """
    survey = _Survey()
    survey.measure(value, 1)
    return survey.tensors


class _Survey:
    def __init__(self) -> None:
        self.tensors: list[TensorRecord] = []
        self._known: dict[int, tuple[int, int] | None] = {}  # by the container's id; None: not yet complete

    def measure(self, value: Any, depth: int) -> tuple[int, int]:
        """(levels below, number of values) of a value that lies at `depth`."""
        if type(value) in LEAVES:
            self._note(value)
            return 0, 1
        if type(value) not in CONTAINERS:
            raise CheckpointError(f"a bare {type(value).__name__} instead of a tensor, container or plain value")
        known = self._known.get(id(value), (0, 0))
        if known is None:
            raise CheckpointError(f"a {type(value).__name__} that contains itself")
        if depth + known[0] > MAX_DEPTH:
            raise CheckpointError(f"values nested more than {MAX_DEPTH} deep")
        if id(value) not in self._known:
            self._known[id(value)] = None
            known = self._known[id(value)] = self._measure_children(value, depth)
        return known

    def _measure_children(self, value: Any, depth: int) -> tuple[int, int]:
        levels, count = 0, 1
        for child in _children(value):
            below, values = self.measure(child, depth + 1)
            levels, count = max(levels, below + 1), count + values
        if count > MAX_VALUES:
            raise CheckpointError(f"more than {MAX_VALUES} values")
        return levels, count

    def _note(self, leaf: Any) -> None:
        if isinstance(leaf, ParameterRecord):
            leaf = leaf.tensor
        if isinstance(leaf, TensorRecord):
            self.tensors.append(leaf)


def _children(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, DICTIONARIES) else value
    if type(value) is OrderedDict:
        yield from vars(value).values()


def named_tensors(value: Any) -> list[tuple[str, TensorRecord]]:
    """Every tensor, by its name: the keys and positions that lead to it, joined by dots ('' for a lone tensor)."""
    found = []
    characters = 0
    for name, record in _walk(value, ""):
        characters += len(name)
        if characters > MAX_NAME_CHARACTERS:
            raise CheckpointError(f"the names of its tensors have more than {MAX_NAME_CHARACTERS} characters")
        found.append((name, record))
    return found


def _walk(value: Any, name: str) -> Iterator[tuple[str, TensorRecord]]:
    if isinstance(value, ParameterRecord):
        value = value.tensor
    if isinstance(value, TensorRecord):
        yield name, value
    elif isinstance(value, (*DICTIONARIES, list, tuple)):
        for key, child in value.items() if isinstance(value, DICTIONARIES) else enumerate(value):
            yield from _walk(child, f"{name}.{key}" if name else str(key))


class Builder:
    """Copies a value with its records replaced by Tensors over `storages`; what was shared stays shared."""

    def __init__(self, storages: dict[str, np.ndarray]) -> None:
        self._storages = storages
        self._built: dict[int, Any] = {}

    def build(self, value: Any) -> Any:
        if id(value) not in self._built:
            self._built[id(value)] = self._build(value)
        return self._built[id(value)]

    def _build(self, value: Any) -> Any:
        if isinstance(value, TensorRecord):
            return self._tensor(value)
        if isinstance(value, ParameterRecord):
            return Parameter(self.build(value.tensor).detach(), value.requires_grad)
        if isinstance(value, TorchDtype):
            return _dtype(value.name)
        if isinstance(value, DICTIONARIES):
            return self._dictionary(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self.build(item) for item in value)
        return value

    def _tensor(self, record: TensorRecord) -> Tensor:
        tensor = wrap(strided(record, self._storages[record.storage.key]))
        return tensor.requires_grad_() if record.requires_grad else tensor

    def _dictionary(self, value: dict) -> dict:
        built = type(value)()
        for key, item in value.items():
            built[key] = self.build(item)
        if type(value) is OrderedDict:
            for name, attribute in vars(value).items():
                setattr(built, name, self.build(attribute))
        return built


def _dtype(name: str) -> dtypes.dtype:
    """tinynet's dtype for torch's; bfloat16 is float32 here, as in the tensors read."""
    return dtypes.as_dtype("float32" if name == "bfloat16" else name)
