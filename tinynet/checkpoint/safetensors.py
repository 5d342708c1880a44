"""Named tensors in the safetensors format, with a checksum over the whole file.

The format has none of its own: a flipped bit in a weight would load as another weight. Files written here
carry a SHA-256 in their metadata, computed with its own digits taken as zeros; any safetensors reader loads
them, and files of other writers load here without that check.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tinynet import Tensor, from_numpy
from tinynet.checkpoint.header import Entry, Header, build_header, name_problem, read_header
from tinynet.checkpoint.opening import opened
from tinynet.checkpoint.torch_files.records import StorageRecord, brief
from tinynet.checkpoint.torch_files.storages import NATIVE_DTYPES, Extent, read_storage
from tinynet.errors import CheckpointError
from tinynet.utils.atomic import atomic_write

# Two marks: one damaged byte spoils at most one of them, so a damaged file cannot pass for a foreign one.
CHECKSUM_KEY = "tinynet.sha256"
FORMAT_KEY = "tinynet.format"
FORMAT = "1"
NO_CHECKSUM = "0" * 64


class Checkpoint(NamedTuple):
    """What a safetensors file holds."""

    tensors: OrderedDict[str, Tensor]
    metadata: dict[str, str]


def save_safetensors(
    tensors: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes named tensors (or arrays) and text metadata to `path`, all or nothing.

    The file appears under its name only when it is complete and on the disk; until then a previous one stays.
    The same content gives the same bytes. Tensors that share memory are written once for each name.

    Raises:
        TypeError: a value that is no tensor or array, or metadata that is not text.
        ValueError: a name that leads out of a folder ("../weight"), or names and metadata of more than 3 MB.
        OSError: the file cannot be written (the disk is full, ...); the previous one is unchanged.
    """
    arrays = {name: _numbers(name, value) for name, value in tensors.items()}
    # The widest dtypes first, so that each array is aligned; the header keeps the order given.
    stored = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    header = build_header(_places(arrays, stored), _signed(metadata or {}))
    digest = hashlib.sha256(header)
    with atomic_write(path) as file:
        file.write(header)
        for name in stored:
            content = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data
            digest.update(content)
            file.write(content)
        file.seek(header.index(_checksum_entry(NO_CHECKSUM)))
        file.write(_checksum_entry(digest.hexdigest()))


def load_safetensors(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a safetensors file: its tensors, in the order of its header, and its metadata.

    bfloat16 is read as float32, exactly. Peak memory is about the size of the tensors.

    Raises:
        CheckpointError: unreadable, empty, truncated or damaged, or a dtype tinynet has not; it names the path.
    """
    with opened(path) as (file, size):
        header = read_header(file, size)
        for entry in header.entries:
            _check_loadable(entry)
        arrays = _read(file, header)
    tensors = OrderedDict((entry.name, from_numpy(arrays[entry.name])) for entry in header.entries)
    return Checkpoint(tensors, given_metadata(header))


def given_metadata(header: Header) -> dict[str, str]:
    """The metadata that the user gave, without the marks that `save_safetensors` added."""
    return {key: text for key, text in header.metadata.items() if key not in (CHECKSUM_KEY, FORMAT_KEY)}


def is_signed(header: Header) -> bool:
    """Whether the file carries a checksum, so that any damage is noticed when it is loaded."""
    return CHECKSUM_KEY in header.metadata or FORMAT_KEY in header.metadata


def _numbers(name: str, value: Any) -> np.ndarray:
    array = value.detach().numpy() if isinstance(value, Tensor) else value
    if not isinstance(name, str):
        raise TypeError(f"checkpoint entries need a name as text, got {name!r}")
    if problem := name_problem(name):
        raise ValueError(f"checkpoint: {problem}")
    if not isinstance(array, np.ndarray) or array.dtype.name not in NATIVE_DTYPES:
        kind = getattr(array, "dtype", type(value).__name__)
        raise TypeError(
            f"checkpoint entry {name!r} must be a tensor or an array of numbers, not {kind}: a file holds tensors by "
            "name, nothing nested. Save parts to files of their own or name their tensors apart ('model.fc.weight'), "
            "give numbers as tensors and text as metadata"
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _places(arrays: dict[str, np.ndarray], stored: list[str]) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """(dtype, shape, start, end) of each array, in the order of `arrays`, when they are written as `stored`."""
    ends = np.cumsum([arrays[name].nbytes for name in stored], dtype=np.int64).tolist()
    end_of = dict(zip(stored, ends))
    return {
        name: (array.dtype.name, array.shape, end_of[name] - array.nbytes, end_of[name])
        for name, array in arrays.items()
    }


def _signed(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"checkpoint metadata must be text, got {key!r}: {value!r}")
    return {**metadata, FORMAT_KEY: FORMAT, CHECKSUM_KEY: NO_CHECKSUM}


def _checksum_entry(digest: str) -> bytes:
    return f'"{CHECKSUM_KEY}":"{digest}"'.encode()


def _check_loadable(entry: Entry) -> None:
    if entry.dtype not in (*NATIVE_DTYPES, "bfloat16"):
        raise CheckpointError(
            f"tensor {brief(entry.name)} has dtype {brief(entry.dtype)}; tinynet reads bfloat16 (as float32), "
            f"{', '.join(NATIVE_DTYPES)}"
        )


def _read(file: BinaryIO, header: Header) -> dict[str, np.ndarray]:
    """Each tensor's array, read once, to its place; checked against the checksum if there is one."""
    written = header.metadata.get(CHECKSUM_KEY, "")
    unsigned = header.content.replace(_checksum_entry(written), _checksum_entry(NO_CHECKSUM), 1)
    source = _Hashed(file, unsigned)
    arrays = {}
    for entry in header.in_place:
        storage = StorageRecord(entry.name, entry.dtype, math.prod(entry.shape))
        extent = Extent(len(header.content) + entry.start, entry.end - entry.start)
        reader: Any = source if is_signed(header) else file
        arrays[entry.name] = read_storage(reader, storage, extent, "little").reshape(entry.shape)
    if is_signed(header) and source.digest.hexdigest() != written:
        raise CheckpointError("the file is damaged: its checksum does not agree with its content")
    return arrays


class _Hashed:
    """A file whose bytes join a SHA-256 as they are read, from the first to the last."""

    def __init__(self, file: BinaryIO, before: bytes) -> None:
        self.digest = hashlib.sha256(before)
        self.seek = file.seek
        self._file = file

    def readinto(self, target: np.ndarray) -> int:
        count = self._file.readinto(target)  # type: ignore[attr-defined]
        self.digest.update(target[:count].data)
        return count
