"""From records to arrays: where each storage's bytes lie in the file, and reading them once, to their place."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tinynet.checkpoint.torch_files.records import ITEMSIZES, StorageRecord, TensorRecord, brief
from tinynet.errors import CheckpointError

CHUNK = 2**20  # bytes read at a time, so that conversions need no second copy of a storage
NATIVE_DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


class Extent(NamedTuple):
    """A storage's bytes in the file, and their CRC-32 where the file has one (0: not computed)."""

    offset: int
    nbytes: int
    crc: int = 0


@dataclass(frozen=True)
class Contents:
    """A parsed torch file: its value, with records in the place of tensors, and where the data are."""

    value: Any
    storages: dict[str, StorageRecord]
    extents: dict[str, Extent]
    byteorder: str = "little"

    def __post_init__(self) -> None:
        for key, storage in self.storages.items():
            expected = storage.numel * ITEMSIZES[storage.dtype]
            found = self.extents.get(key)
            if found is None:
                raise CheckpointError(f"the data of storage {brief(key)} are missing: expected {expected} bytes")
            if found.nbytes != expected:
                raise CheckpointError(
                    f"storage {brief(key)} should have {storage.numel} elements of {storage.dtype} = {expected} bytes, "
                    f"the file has {found.nbytes}"
                )

    def read_storages(self, file: BinaryIO, records: Iterable[TensorRecord]) -> dict[str, np.ndarray]:
        """One flat array for each storage that the records use, read in the file's order."""
        used = set()
        for record in records:
            check_loadable(record)
            used.add(record.storage.key)
        arrays = {}
        for key in sorted(used, key=lambda key: self.extents[key].offset):
            arrays[key] = read_storage(file, self.storages[key], self.extents[key], self.byteorder)
        return arrays


def check_loadable(record: TensorRecord) -> None:
    """Raises CheckpointError for a dtype that tinynet cannot hold."""
    if record.dtype not in (*NATIVE_DTYPES, "bfloat16") or record.dtype != record.storage.dtype:
        raise CheckpointError(
            f"a tensor of shape {record.shape} has dtype torch.{record.dtype}; "
            f"tinynet reads bfloat16 (as float32), {', '.join(NATIVE_DTYPES)}"
        )


def read_storage(file: BinaryIO, storage: StorageRecord, extent: Extent, byteorder: str) -> np.ndarray:
    """The storage's elements as a new flat array; bfloat16 becomes float32, exactly.

    Raises:
        CheckpointError: the data end early, do not agree with their checksum, or are no booleans.
    """
    if storage.dtype == "bfloat16":
        array, checksum = _read_bfloat16(file, storage, extent, byteorder)
    else:
        array = np.empty(storage.numel, storage.dtype)
        checksum = _read_into(file, extent.offset, array.view(np.uint8), 0)
        if byteorder != sys.byteorder:
            array.byteswap(inplace=True)
    if extent.crc and checksum != extent.crc:
        raise CheckpointError(
            f"the data of storage {brief(storage.key)} are damaged: expected CRC-32 {extent.crc:08x}, "
            f"found {checksum:08x}"
        )
    if storage.dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
        raise CheckpointError(f"the data of storage {brief(storage.key)} are damaged: a boolean other than 0 and 1")
    return array


def _read_into(file: BinaryIO, offset: int, target: np.ndarray, checksum: int) -> int:
    """Fills the bytes of `target`; returns the CRC-32 continued."""
    file.seek(offset)
    filled = 0
    while filled < target.size:
        chunk = target[filled : filled + CHUNK]
        count = file.readinto(chunk)  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"truncated: expected {target.size - filled} more bytes at byte {offset + filled}")
        checksum = zlib.crc32(chunk[:count].data, checksum)
        filled += count
    return checksum


def _read_bfloat16(file: BinaryIO, storage: StorageRecord, extent: Extent, byteorder: str) -> tuple[np.ndarray, int]:
    """bfloat16 is the upper half of a float32."""
    array = np.empty(storage.numel, np.float32)
    upper = np.empty(CHUNK // 2, np.dtype(np.uint16).newbyteorder("<" if byteorder == "little" else ">"))
    checksum = 0
    for start in range(0, storage.numel, upper.size):
        part = upper[: storage.numel - start]
        checksum = _read_into(file, extent.offset + 2 * start, part.view(np.uint8), checksum)
        np.left_shift(part, 16, out=array[start : start + part.size].view(np.uint32), dtype=np.uint32)
    return array, checksum


def strided(record: TensorRecord, storage: np.ndarray) -> np.ndarray:
    """The tensor's elements as a view of its storage's array."""
    if 0 in record.shape:
        return np.empty(record.shape, storage.dtype)
    return np.ndarray(
        record.shape,
        storage.dtype,
        buffer=storage.data,
        offset=(record.storage.start + record.offset) * storage.itemsize,
        strides=tuple(stride * storage.itemsize for stride in record.stride),
    )
