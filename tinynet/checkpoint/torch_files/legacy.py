"""The legacy stream, torch's layout from 0.1.10 to 1.5: pickles one after the other, then the storages' bytes.

Source: torch.serialization._legacy_save.
"""

from __future__ import annotations

from typing import BinaryIO

from tinynet.checkpoint.torch_files.reader import Reader
from tinynet.checkpoint.torch_files.records import ITEMSIZES, StorageTable, brief
from tinynet.checkpoint.torch_files.storages import Contents, Extent
from tinynet.checkpoint.torch_files.unpickler import Unpickler
from tinynet.errors import CheckpointError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MAGIC = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"."  # the first pickle, after its protocol
PROTOCOL_VERSION = 1001


def looks_like(head: bytes) -> bool:
    return head.startswith(b"\x80") and MAGIC in head[:32]


def parse(file: BinaryIO, size: int) -> Contents:
    """The stream's value and the places of its storages. Raises CheckpointError."""
    reader = Reader(file, "the file", 0, size)
    magic, version = Unpickler(reader).load(), Unpickler(reader).load()
    if magic != MAGIC_NUMBER or version != PROTOCOL_VERSION:
        raise CheckpointError(f"expected torch's format {PROTOCOL_VERSION}, found {brief(version)}")
    Unpickler(reader).load()  # the writing machine, which torch does not look at either
    table = StorageTable()
    value = Unpickler(reader, lambda identifier: table.from_persistent_id(identifier, 6)).load()
    keys = Unpickler(reader).load()
    if type(keys) is not list or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise CheckpointError("damaged: expected the list of storages, each named once")
    return Contents(value, table.roots, {key: _extent(reader, table, key) for key in keys})


def _extent(reader: Reader, table: StorageTable, key: str) -> Extent:
    """Passes over one storage: its number of elements as int64, then its bytes."""
    storage = table.roots.get(key)
    if storage is None:
        raise CheckpointError(f"damaged: data of a storage {brief(key)} that nothing refers to")
    numel = reader.unpack("<q")[0]
    extent = Extent(reader.position, numel * ITEMSIZES[storage.dtype])
    reader.skip(extent.nbytes)
    return extent
