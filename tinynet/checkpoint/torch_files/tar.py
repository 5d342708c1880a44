"""The tar layout of torch 0.1: entries `storages`, `tensors` and `pickle`.

Source: torch.serialization._legacy_load (legacy_load); the archive as in POSIX 1003.1 (ustar, pax).
Entries are read in place; nothing is extracted.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from tinynet.checkpoint.torch_files.reader import Reader
from tinynet.checkpoint.torch_files.records import (
    ITEMSIZES,
    MAX_DIMENSIONS,
    StorageRecord,
    StorageTable,
    StorageType,
    TensorRecord,
    TensorType,
    brief,
    is_size,
    make_tensor,
)
from tinynet.checkpoint.torch_files.storages import Contents, Extent
from tinynet.checkpoint.torch_files.unpickler import Unpickler
from tinynet.errors import CheckpointError

BLOCK = 512
REQUIRED = ("storages", "tensors", "pickle")
MAX_MEMBERS = 32  # torch writes four, each with a header of attributes
MAX_ATTRIBUTES = 2**16
MAX_RECORDS = 100_000
FILE_TYPES = (b"0", b"\0")
ATTRIBUTES = b"x"


def looks_like(head: bytes) -> bool:
    """Whether one of torch's entries begins in the first blocks."""
    names = [head[start : start + 100].rstrip(b"\0") for start in range(0, len(head) - 99, BLOCK)]
    return any(name.decode("latin1") in (*REQUIRED, "sys_info") for name in names)


def is_archive(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def parse(file: BinaryIO, size: int) -> Contents:
    """The value of the archive's pickle and the places of its storages. Raises CheckpointError."""
    members = _members(file, size)
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        raise CheckpointError(
            f"not a torch file, or truncated: a tar archive without {', '.join(missing)} (it holds {sorted(members)})"
        )
    readers = {name: Reader(file, name, start, start + length) for name, (start, length) in members.items()}
    table, extents, storages = _read_storages(_rewound(file, readers["storages"]))
    tensors = _read_tensors(_rewound(file, readers["tensors"]), storages)

    def persistent_load(identifier: Any) -> TensorRecord | StorageRecord:
        key = _identifier(identifier)
        if key not in tensors and key not in storages:
            raise CheckpointError(f"a reference to tensor {key}, which the archive does not hold")
        return tensors[key] if key in tensors else storages[key]

    value = Unpickler(_rewound(file, readers["pickle"]), persistent_load).load()
    return Contents(value, table.roots, extents)


def _rewound(file: BinaryIO, reader: Reader) -> Reader:
    file.seek(reader.position)
    return reader


def _members(file: BinaryIO, size: int) -> dict[str, tuple[int, int]]:
    """Start and length of every file in the archive, by name."""
    reader = Reader(file, "the tar archive", 0, size)
    members: dict[str, tuple[int, int]] = {}
    for _ in range(MAX_MEMBERS):
        header = reader.read(BLOCK) if reader.position < size else bytes(BLOCK)
        if not any(header):
            return members
        name, kind, length = _header(header)
        if kind == ATTRIBUTES:
            _check_attributes(reader, length)
        elif kind not in FILE_TYPES:
            raise CheckpointError(f"refused: entry {name!a} is a link, folder or device (type {kind!r}), not a file")
        elif name in members:
            raise CheckpointError(f"refused: two entries have the name {name!a}")
        else:
            members[name] = reader.position, length
            reader.skip(length)
        reader.skip(min(-length % BLOCK, size - reader.position))
    raise CheckpointError(f"a tar archive of more than {MAX_MEMBERS} entries; torch writes four")


def _header(header: bytes) -> tuple[str, bytes, int]:
    """Name, type and length of an entry."""
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    try:
        length = int(header[124:136].rstrip(b" \0"), 8)
        checksum = int(header[148:156].rstrip(b" \0"), 8)
    except ValueError:
        raise CheckpointError(f"damaged: the header of tar entry {name!a} cannot be read") from None
    if checksum != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) or length < 0:
        raise CheckpointError(f"damaged: the header of tar entry {name!a} does not agree with its checksum")
    if (name.startswith("/") and header[156:157] != ATTRIBUTES) or ".." in name.split("/") or "\\" in name:
        raise CheckpointError(f"refused: an entry leads out of the archive: {name!a}")
    return name, header[156:157], length


def _check_attributes(reader: Reader, length: int) -> None:
    """The next entry's times and owner are of no use here; another name, size or link would be."""
    if length > MAX_ATTRIBUTES:
        raise CheckpointError(f"a tar header of {length} bytes; at most {MAX_ATTRIBUTES} are read")
    content = reader.read(length)
    for word in (b" path=", b" linkpath=", b" size=", b" GNU."):
        if word in content:
            raise CheckpointError(f"refused: a tar header that replaces{word.decode().rstrip('=')} of the next entry")


def _read_storages(reader: Reader) -> tuple[StorageTable, dict[str, Extent], dict[int, StorageRecord]]:
    """(key, location, type) pickled, int64 numel and bytes for each storage; then the views of them."""
    table, extents, storages = StorageTable(), {}, {}
    for _ in range(_count(reader, "storages")):
        key, _, kind = _fields(reader, 3)
        numel = reader.unpack("<q")[0]
        if not isinstance(kind, StorageType) or _identifier(key) in storages:
            raise CheckpointError(f"damaged: expected a storage's type and its own key, found {brief((kind, key))}")
        record = table.add(kind, str(key), numel)
        storages[_identifier(key)] = record
        extents[record.key] = Extent(reader.position, numel * ITEMSIZES[record.dtype])
        reader.skip(extents[record.key].nbytes)
    views = Unpickler(reader).load()
    if type(views) is not list:
        raise CheckpointError(f"expected the list of storage views, found {type(views).__name__}")
    for view in views:
        if type(view) is not tuple or len(view) != 4 or _identifier(view[1]) not in storages:
            raise CheckpointError(f"expected a view of a storage, found {brief(view)}")
        storages[_identifier(view[0])] = storages[_identifier(view[1])].view(view[2], view[3])
    return table, extents, storages


def _read_tensors(reader: Reader, storages: dict[int, StorageRecord]) -> dict[int, TensorRecord]:
    """(key, storage, type) pickled, then the dimensions, sizes, strides and offset of each tensor."""
    tensors: dict[int, TensorRecord] = {}
    for _ in range(_count(reader, "tensors")):
        key, storage, kind = _fields(reader, 3)
        dimensions = reader.unpack("<i4x")[0]
        if not 0 <= dimensions <= MAX_DIMENSIONS or not isinstance(kind, TensorType):
            raise CheckpointError(f"damaged: a tensor of type {brief(kind)} with {dimensions} dimensions")
        if _identifier(storage) not in storages or _identifier(key) in tensors:
            raise CheckpointError(f"damaged: expected tensor {brief(key)} once, in storage {brief(storage)}")
        shape, stride = (reader.unpack(f"<{dimensions}q") for _ in range(2))
        offset = reader.unpack("<q")[0]
        tensors[_identifier(key)] = make_tensor(storages[_identifier(storage)], offset, shape, stride)
    return tensors


def _count(reader: Reader, what: str) -> int:
    count = Unpickler(reader).load()
    if not is_size(count) or count > MAX_RECORDS:
        raise CheckpointError(f"expected the number of {what}, at most {MAX_RECORDS}, found {brief(count)}")
    return count


def _fields(reader: Reader, expected: int) -> tuple[Any, ...]:
    fields = Unpickler(reader).load()
    if type(fields) is not tuple or len(fields) != expected:
        raise CheckpointError(f"expected {expected} fields, found {brief(fields)}")
    return fields


def _identifier(value: Any) -> int:
    """An object's number, written as an int or as digits."""
    if type(value) is str and value.isdecimal() and len(value) < 32:
        value = int(value)
    if type(value) is not int:
        raise CheckpointError(f"expected an object's number, found {brief(value)}")
    return value
