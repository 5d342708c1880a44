"""What the pickles of a torch file describe, before any tensor data are read.

Source: torch._utils._rebuild_tensor_v2 and its family, torch.serialization's persistent ids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tinynet.errors import CheckpointError

ITEMSIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex128": 16, "complex64": 8, "complex32": 4,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
MAX_DIMENSIONS = 64  # NumPy's and torch's
MAX_EXPANDED_BYTES = 2**30  # of a tensor that repeats its elements (stride 0): its copies would be this large
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TorchDtype:
    """A dtype, by its name in torch."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageType:
    """A class of typed storages such as torch.FloatStorage."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class TensorType:
    """A class of typed tensors such as torch.FloatTensor (named in tar files only)."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """`numel` elements of the storage data `key`, from element `start` on; tensors share it."""

    key: str
    dtype: str
    numel: int
    start: int = 0

    def view(self, start: int, numel: int) -> StorageRecord:
        """A part of this storage. Raises CheckpointError outside of it."""
        if not is_size(start) or not is_size(numel) or start + numel > self.numel:
            raise CheckpointError(
                f"a view of {brief(numel)} elements from {brief(start)} on does not fit storage {brief(self.key)} "
                f"of {self.numel}"
            )
        return StorageRecord(self.key, self.dtype, numel, self.start + start)


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A tensor: where its elements lie in its storage (offset and strides in elements)."""

    storage: StorageRecord
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEMSIZES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class ParameterRecord:
    """A torch.nn.Parameter."""

    tensor: TensorRecord
    requires_grad: bool


class StorageTable:
    """The storages that a file's pickles refer to, by key."""

    def __init__(self) -> None:
        self.roots: dict[str, StorageRecord] = {}

    def add(self, kind: Any, key: Any, numel: Any) -> StorageRecord:
        """The storage `key`; every mention of it must agree on dtype and size."""
        if not isinstance(kind, StorageType) or not isinstance(key, str) or not is_size(numel):
            raise CheckpointError(f"expected a storage's type, key and size, found {brief((kind, key, numel))}")
        record = StorageRecord(key, kind.dtype, numel)
        known = self.roots.setdefault(key, record)
        if known != record:
            raise CheckpointError(
                f"storage {brief(key)} is described twice: {known.numel} elements of {known.dtype}, "
                f"then {numel} of {kind.dtype}"
            )
        return known

    def from_persistent_id(self, identifier: Any, fields: int) -> StorageRecord:
        """('storage', type, key, location, numel[, view]); the location is dropped: all is loaded to the CPU."""
        if not isinstance(identifier, tuple) or len(identifier) != fields or identifier[0] != "storage":
            raise CheckpointError(f"expected a reference to a storage with {fields} fields, found {brief(identifier)}")
        record = self.add(identifier[1], identifier[2], identifier[4])
        view = identifier[5] if fields == 6 else None
        if view is None:
            return record
        if not isinstance(view, tuple) or len(view) != 3:
            raise CheckpointError(f"expected (key, offset, size) of a storage's view, found {brief(view)}")
        return record.view(view[1], view[2])


def brief(value: Any) -> str:
    """A few words on a value of any size and depth, for messages (its repr may be endless)."""
    if type(value) in (tuple, list):
        return f"({', '.join(map(_brief_item, value[:8]))}{', ...' if len(value) > 8 else ''})"
    return _brief_item(value)


def _brief_item(value: Any) -> str:
    if value is None or type(value) in (bool, int, float):
        return repr(value)[:40]
    return ascii(value[:40]) if type(value) in (str, bytes) else type(value).__name__


def is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT64


def make_tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any = False, dtype: str | None = None
) -> TensorRecord:
    """A TensorRecord whose every element lies in its storage. Raises CheckpointError."""
    if not isinstance(storage, StorageRecord):
        raise CheckpointError(f"expected a tensor's storage, found {type(storage).__name__}")
    if type(requires_grad) is not bool:
        raise CheckpointError(f"expected requires_grad to be True or False, found {brief(requires_grad)}")
    _check_numbers(offset, shape, stride)
    dtype = dtype or storage.dtype
    record = TensorRecord(storage, dtype, offset, tuple(shape), tuple(stride), requires_grad)
    _check_extent(record)
    if requires_grad:
        check_differentiable(record)
    return record


def check_differentiable(record: TensorRecord) -> None:
    if not record.dtype.startswith(("float", "bfloat", "complex")):
        raise CheckpointError(f"a tensor of dtype {record.dtype} cannot require grad")


def _check_numbers(offset: Any, shape: Any, stride: Any) -> None:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise CheckpointError(f"expected a shape and as many strides, found {brief(shape)} and {brief(stride)}")
    if len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(f"a tensor of {len(shape)} dimensions; at most {MAX_DIMENSIONS} are possible")
    if not all(map(is_size, (offset, *shape, *stride))):
        raise CheckpointError(
            "a tensor's offset, sizes and strides must be integers from 0 to 2**63 - 1, "
            f"found offset {brief(offset)}, shape {brief(shape)}, strides {brief(stride)}"
        )


def _check_extent(record: TensorRecord) -> None:
    """No element may lie outside of the storage, and no size overflow NumPy's."""
    itemsize = ITEMSIZES[record.dtype]
    described = f"a tensor of shape {record.shape}, strides {record.stride}, offset {record.offset}"
    nonzero = math.prod(size for size in record.shape if size)
    if max(nonzero, *record.stride, 1) * itemsize > MAX_INT64:
        raise CheckpointError(f"{described} is larger than any memory")
    if 0 in record.shape:
        return
    available = record.storage.numel * ITEMSIZES[record.storage.dtype] // itemsize
    last = record.offset + sum((size - 1) * stride for size, stride in zip(record.shape, record.stride))
    if last >= available:
        raise CheckpointError(
            f"{described} needs element {last} of its storage {brief(record.storage.key)}, which has {available}"
        )
    if nonzero > available and record.nbytes > MAX_EXPANDED_BYTES:
        raise CheckpointError(f"{described} repeats {available} elements into {record.nbytes} bytes")
