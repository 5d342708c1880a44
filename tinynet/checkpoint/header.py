"""The header of a safetensors file: what it says is believed only after it was compared with the file.

Source: the format's description in huggingface/safetensors. Eight bytes give the length of a JSON table: for each
tensor its dtype, shape and place in the data that follow, and text metadata. Stricter than the library, whose
header may have 100 MB and the same name twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from tinynet.checkpoint.torch_files import TensorInfo
from tinynet.checkpoint.torch_files.records import ITEMSIZES, MAX_DIMENSIONS, MAX_INT64, brief, is_size
from tinynet.errors import CheckpointError

METADATA = "__metadata__"
MAX_HEADER_BYTES = 3 * 2**20  # 25,000 tensors; the worst JSON takes 30 times its size in memory
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
CODES = {dtype: code for code, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """A tensor's description; its bytes are start..end of the data. `dtype` is torch's name where it has one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(self.name, self.shape, self.dtype, self.end - self.start)


@dataclass(frozen=True)
class Header:
    """A checked header: `entries` in its own order, `content` as it is in the file with its length."""

    metadata: dict[str, str]
    entries: list[Entry]
    content: bytes

    @property
    def in_place(self) -> list[Entry]:
        """The entries in the order of their data."""
        return sorted(self.entries, key=lambda entry: (entry.start, entry.end))


def read_header(file: BinaryIO, size: int) -> Header:
    """The header of a file of `size` bytes, read from its beginning.

    Raises:
        CheckpointError: it is no header, names a tensor twice, or its tensors do not fill the data exactly.
    """
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > size - 8:
        raise CheckpointError(
            f"not a safetensors file, or truncated: its header should have {length} bytes, the whole file has {size}"
        )
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    text = file.read(length)
    table = _parse(text)
    metadata = _metadata(table.pop(METADATA, {}))
    header = Header(metadata, [_entry(name, fields) for name, fields in table.items()], prefix + text)
    _check_places(header.in_place, size - 8 - length)
    return header


def build_header(tensors: Mapping[str, tuple[str, tuple[int, ...], int, int]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a header from (dtype, shape, start, end) by name; padded so that the data are aligned.

    Raises ValueError if they are more than would be read.
    """
    table: dict[str, Any] = {METADATA: dict(metadata)}
    for name, (dtype, shape, start, end) in tensors.items():
        table[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(
            f"checkpoint: {len(tensors)} names and the metadata take {len(text)} bytes, at most {MAX_HEADER_BYTES} fit"
        )
    return len(text).to_bytes(8, "little") + text


def name_problem(name: str) -> str | None:
    """Why a tensor may not have this name (tools make file names of them), or None."""
    if name == METADATA:
        return f"{METADATA!r} is where the format keeps its metadata"
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name:
        return f"the name {brief(name)} would lead out of a folder"
    return None


def _parse(text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text.decode(), object_pairs_hook=_without_repetition)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError("not a safetensors file, or damaged: its header cannot be read") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"not a safetensors file: its header is a {type(table).__name__}, not a table")
    return table


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise CheckpointError(f"refused: two entries have the name {brief(twice)}")
    return table


def _metadata(table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(type(value) is str for value in table.values()):
        raise CheckpointError("damaged: its metadata is no table of texts")
    return table


def _entry(name: str, fields: Any) -> Entry:
    problem = name_problem(name)
    if problem:
        raise CheckpointError(f"refused: {problem}")
    if type(fields) is not dict or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"damaged: tensor {brief(name)} needs exactly dtype, shape and data_offsets")
    code, shape, places = fields["dtype"], fields["shape"], fields["data_offsets"]
    if type(code) is not str or not _sizes(shape, MAX_DIMENSIONS) or not _sizes(places, 2) or len(places) != 2:
        raise CheckpointError(
            f"damaged: tensor {brief(name)} has dtype {brief(code)}, shape {brief(shape)}, data_offsets {brief(places)}"
        )
    entry = Entry(name, DTYPES.get(code, code), tuple(shape), *places)
    _check_size(entry)
    return entry


def _sizes(values: Any, at_most: int) -> bool:
    return type(values) is list and len(values) <= at_most and all(map(is_size, values))


def _check_size(entry: Entry) -> None:
    itemsize = ITEMSIZES.get(entry.dtype)
    if itemsize is None:
        return  # a dtype that tinynet does not know, and refuses when it is to be loaded
    expected, found = math.prod(entry.shape) * itemsize, entry.end - entry.start
    if expected != found or math.prod(size for size in entry.shape if size) * itemsize > MAX_INT64:
        raise CheckpointError(
            f"damaged: tensor {brief(entry.name)} of shape {entry.shape} and dtype {entry.dtype} needs {expected} "
            f"bytes, its place in the file has {found}"
        )


def _check_places(entries: list[Entry], available: int) -> None:
    """One after the other, without overlaps and gaps, up to the end of the file."""
    end = 0
    for entry in entries:
        if entry.start != end or entry.end < entry.start:
            raise CheckpointError(
                f"damaged: the data of tensor {brief(entry.name)} lie at bytes {entry.start} to {entry.end}, "
                f"expected them from byte {end} on"
            )
        end = entry.end
    if end != available:
        raise CheckpointError(f"truncated or damaged: the tensors need {end} bytes of data, the file has {available}")
