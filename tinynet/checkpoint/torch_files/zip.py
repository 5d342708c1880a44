"""The zip layout, torch's default since 1.6: `<root>/data.pkl` and one uncompressed entry per storage.

Source: torch.serialization._save; PKWARE's APPNOTE for the archive, of which torch uses the stored entries only.
So nothing here ever decompresses, and no length is believed before it was compared with the file's.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, BinaryIO, NamedTuple

from tinynet.checkpoint.torch_files.reader import Reader
from tinynet.checkpoint.torch_files.records import StorageTable
from tinynet.checkpoint.torch_files.storages import Contents, Extent
from tinynet.checkpoint.torch_files.unpickler import MAX_PICKLE_BYTES, Unpickler
from tinynet.errors import CheckpointError

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 100_000
MAX_DIRECTORY_BYTES = 2**24
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")
LOCAL = struct.Struct("<4s5H3L2H")
SATURATED = 0xFFFFFFFF  # the real value is in the 64-bit record
UNIQUE_64 = 1  # the extra field with 64-bit sizes
ENCRYPTED = 1


class Entry(NamedTuple):
    """A file of the archive as its directory describes it."""

    name: str
    method: int
    flags: int
    crc: int
    compressed_size: int
    size: int
    header: int


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with `head` may be a torch zip: torch writes data.pkl first."""
    name_length = int.from_bytes(head[26:28], "little")
    return head.startswith(MAGIC) and head[30 : 30 + name_length].endswith(b"/data.pkl")


def parse(file: BinaryIO, size: int) -> Contents:
    """The value of the archive's data.pkl and the places of its storages. Raises CheckpointError."""
    entries, directory = _directory(file, size)
    root = _root(entries)
    extents = {name: extent for name, extent in _locate(file, entries, directory).items() if name.startswith(root)}
    byteorder = "little"
    if root + "byteorder" in extents:
        byteorder = _read(file, extents[root + "byteorder"], "byteorder", 16).decode("ascii", "replace")
        if byteorder not in ("little", "big"):
            raise CheckpointError(f"expected the byte order 'little' or 'big', found {byteorder!a}")
    pickle = _read(file, extents[root + "data.pkl"], "data.pkl", MAX_PICKLE_BYTES)
    table = StorageTable()
    reader = Reader(io.BytesIO(pickle), "data.pkl", 0, len(pickle))
    value = Unpickler(reader, lambda identifier: table.from_persistent_id(identifier, 5)).load()
    data = root + "data/"
    storages = {name.removeprefix(data): extent for name, extent in extents.items() if name.startswith(data)}
    return Contents(value, table.roots, storages, byteorder)


def _read(file: BinaryIO, extent: Extent, name: str, limit: int) -> bytes:
    if extent.nbytes > limit:
        raise CheckpointError(f"{name} has {extent.nbytes} bytes; at most {limit} are read")
    content = Reader(file, name, extent.offset, extent.offset + extent.nbytes).read(extent.nbytes)
    if extent.crc and zlib.crc32(content) != extent.crc:
        raise CheckpointError(f"{name} is damaged: expected CRC-32 {extent.crc:08x}, found {zlib.crc32(content):08x}")
    return content


def _root(entries: list[Entry]) -> str:
    """The folder that holds data.pkl, with its slash."""
    names = {entry.name for entry in entries}
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        listed = ", ".join(sorted(names)[:4])
        raise CheckpointError(
            f"not a torch file: a zip archive with {len(roots)} entries like 'archive/data.pkl', expected one "
            f"(it holds {listed!a:.200}, ...)"
        )
    if roots[0] + "constants.pkl" in names:
        raise CheckpointError("a TorchScript archive, which is code; in torch, save the module's state_dict() instead")
    return roots[0]


def _directory(file: BinaryIO, size: int) -> tuple[list[Entry], int]:
    """The entries, and where the directory begins."""
    count, length, start = _end_record(file, size)
    if count > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        raise CheckpointError(
            f"a zip directory of {count} entries in {length} bytes; at most {MAX_ENTRIES} in {MAX_DIRECTORY_BYTES} "
            "are read"
        )
    content = Reader(file, "the zip directory", start, start + length).read(length)
    reader = Reader(io.BytesIO(content), "the zip directory", 0, length)
    entries = [_entry(reader) for _ in range(count)]
    names: set[str] = set()
    for entry in entries:
        _check_name(entry.name)
        if entry.name in names:
            raise CheckpointError(f"refused: two entries have the name {entry.name!a}")
        names.add(entry.name)
    return entries, start


def _end_record(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Number of entries, length and start of the directory, from the record at the end of the file."""
    tail_start = max(0, size - END.size - 0xFFFF)
    tail = Reader(file, "the file", tail_start, size).read(size - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END.size:
        raise CheckpointError("truncated or damaged: a zip archive without the directory at its end")
    _, _, _, _, count, length, start, comment = END.unpack_from(tail, at)
    if at + END.size + comment != len(tail):
        raise CheckpointError(f"damaged: {len(tail) - at - END.size - comment} bytes after the end of the zip archive")
    end = tail_start + at
    if count == 0xFFFF or SATURATED in (length, start):
        count, length, start = _end_record_64(file, end)
    if start + length > end:
        raise CheckpointError(f"damaged: a zip directory of {length} bytes at byte {start}, but it must end by {end}")
    return count, length, start


def _end_record_64(file: BinaryIO, end: int) -> tuple[int, int, int]:
    locator = Reader(file, "the zip directory's locator", max(0, end - LOCATOR_64.size), end)
    signature, _, at, _ = locator.unpack(LOCATOR_64.format)
    if signature != b"PK\x06\x07" or at > end:
        raise CheckpointError("damaged: the 64-bit directory of the zip archive is missing")
    fields = Reader(file, "the zip directory's end", at, end).unpack(END_64.format)
    if fields[0] != b"PK\x06\x06":
        raise CheckpointError("damaged: the 64-bit directory of the zip archive is missing")
    return fields[7], fields[8], fields[9]


def _entry(reader: Reader) -> Entry:
    signature, _, flags, method, crc, *sizes, name, extra, comment, header = reader.unpack("<4sL2H4xL2L3H8xL")
    if signature != b"PK\x01\x02":
        raise CheckpointError(f"damaged: no entry of the zip directory at its byte {reader.position}")
    name = reader.read(name).decode("utf-8", "replace")
    compressed_size, size, header = _wide((*sizes, header), reader.read(extra))
    reader.skip(comment)
    return Entry(name, method, flags, crc, compressed_size, size, header)


def _wide(numbers: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """(compressed size, size, header), each taken from the 64-bit extra field where it is saturated."""
    if SATURATED not in numbers:
        return numbers
    reader = Reader(io.BytesIO(extra), "the zip directory's 64-bit sizes", 0, len(extra))
    kind, length = reader.unpack("<2H")
    while kind != UNIQUE_64:
        reader.skip(length)
        kind, length = reader.unpack("<2H")
    compressed_size, size, header = numbers
    size = reader.unpack("<Q")[0] if size == SATURATED else size  # the field's order: size first
    compressed_size = reader.unpack("<Q")[0] if compressed_size == SATURATED else compressed_size
    header = reader.unpack("<Q")[0] if header == SATURATED else header
    return compressed_size, size, header


def _check_name(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or any(c in name for c in "\\:\0"):
        raise CheckpointError(f"refused: an entry leads out of the archive: {name!a:.200}")


def _locate(file: BinaryIO, entries: list[Entry], directory: int) -> dict[str, Extent]:
    """Where each entry's bytes are; they may neither be compressed nor overlap."""
    extents: dict[str, Extent] = {}
    previous_end = 0
    for entry in sorted(entries, key=lambda entry: entry.header):
        if entry.method or entry.flags & ENCRYPTED or entry.size != entry.compressed_size:
            raise CheckpointError(
                f"refused: entry {entry.name!a} is compressed or encrypted ({entry.compressed_size} bytes for "
                f"{entry.size}); torch stores entries as they are"
            )
        if entry.header < previous_end:
            raise CheckpointError(f"refused: entry {entry.name!a} overlaps the one before it")
        start = _data_start(file, entry, directory)
        previous_end = start + entry.size
        if previous_end > directory:
            raise CheckpointError(
                f"truncated or damaged: entry {entry.name!a} should have {entry.size} bytes at byte {start}, "
                f"but the directory begins at {directory}"
            )
        extents[entry.name] = Extent(start, entry.size, entry.crc)
    return extents


def _data_start(file: BinaryIO, entry: Entry, directory: int) -> int:
    """After the entry's own header, which must agree with the directory."""
    reader = Reader(file, f"the header of entry {entry.name!a}", min(entry.header, directory), directory)
    header: tuple[Any, ...] = reader.unpack(LOCAL.format)
    signature, method, size, name_length, extra_length = header[0], header[3], header[8], header[9], header[10]
    name = reader.read(name_length).decode("utf-8", "replace")
    if signature != MAGIC or method != entry.method or name != entry.name:
        raise CheckpointError(f"damaged: the header of entry {entry.name!a} does not agree with the directory")
    if size not in (0, SATURATED, entry.size):
        raise CheckpointError(f"refused: entry {entry.name!a} states {size} and {entry.size} bytes")
    reader.skip(extra_length)
    return reader.position
