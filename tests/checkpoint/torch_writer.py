"""Writes torch's three file layouts byte by byte, without torch, so that any file, also a hostile one, can be made.

Values are plain Python ones, with `Name`, `Call`, `Build`, `Reference` and `Raw` for what only pickles can say.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_TYPES = {
    "float64": "Double", "float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
    "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
}  # fmt: skip


@dataclass
class Name:
    """A global such as torch.FloatStorage."""

    module: str
    name: str


@dataclass
class Call:
    target: Any
    arguments: tuple


@dataclass
class Build:
    """An object and the state that BUILD gives it."""

    target: Any
    state: Any


@dataclass
class Reference:
    """A persistent id."""

    identifier: Any


@dataclass
class Raw:
    """Opcodes as they are."""

    opcodes: bytes


ORDERED_DICT = Name("collections", "OrderedDict")
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")


def ordered(items: dict) -> Raw:
    return Raw(encode(Call(ORDERED_DICT, ())) + encode_items(items))


def pickled(value: Any) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + encode(value) + b"."


def encode(value: Any) -> bytes:
    for kind, encoder in _ENCODERS.items():
        if isinstance(value, kind):
            return encoder(value)
    raise TypeError(f"no encoding for {type(value)}")


def encode_items(items: dict) -> bytes:
    return b"(" + b"".join(encode(key) + encode(item) for key, item in items.items()) + b"u"


def _encode_int(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _encode_str(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


_ENCODERS: dict[Any, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: _encode_int,
    float: lambda value: b"G" + struct.pack(">d", value),
    str: _encode_str,
    tuple: lambda value: b"(" + b"".join(map(encode, value)) + b"t",
    list: lambda value: b"](" + b"".join(map(encode, value)) + b"e",
    dict: lambda value: b"}" + encode_items(value),
    Name: lambda value: f"c{value.module}\n{value.name}\n".encode(),
    Call: lambda value: encode(value.target) + encode(value.arguments) + b"R",
    Build: lambda value: encode(value.target) + encode(value.state) + b"b",
    Reference: lambda value: encode(value.identifier) + b"Q",
    Raw: lambda value: value.opcodes,
}


def storage_type(dtype: str) -> Name:
    return Name("torch", f"{STORAGE_TYPES[dtype]}Storage")


@dataclass
class File:
    """The storages of a file in the making: add tensors, then write `value` in a layout."""

    storages: dict[str, tuple[str, int, bytes]] = field(default_factory=dict)  # dtype, numel, bytes
    tensors: list[tuple[int, int, str, tuple, tuple, int]] = field(default_factory=list)  # for the tar layout
    legacy: bool = False

    def storage(self, array: np.ndarray, dtype: str | None = None, key: str | None = None) -> str:
        """Adds the elements of a flat array; returns the storage's key."""
        key = str(len(self.storages)) if key is None else key
        self.storages[key] = (dtype or array.dtype.name, array.size, array.tobytes())
        return key

    def reference(self, key: str, numel: int | None = None, view: Any = None) -> Reference:
        dtype, size, _ = self.storages[key]
        identifier = ("storage", storage_type(dtype), key, "cpu", size if numel is None else numel)
        return Reference((*identifier, view) if self.legacy else identifier)

    def tensor(self, array: np.ndarray, dtype: str | None = None) -> Call:
        """A contiguous tensor with a storage of its own."""
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).reshape(array.shape).strides)
        return self.strided(self.storage(array.ravel(), dtype), 0, array.shape, strides)

    def strided(self, key: str, offset: Any, shape: Any, stride: Any, **reference: Any) -> Call:
        arguments = (self.reference(key, **reference), offset, shape, stride, False, Call(ORDERED_DICT, ()))
        return Call(REBUILD, arguments)

    def tar_tensor(self, key: str, offset: int, shape: tuple, stride: tuple) -> Reference:
        self.tensors.append((1000 + len(self.tensors), int(key), self.storages[key][0], shape, stride, offset))
        return Reference(self.tensors[-1][0])

    def zip(self, value: Any, byteorder: str | None = "little", extra: dict[str, bytes] | None = None) -> bytes:
        entries = {"archive/data.pkl": pickled(value), "archive/version": b"3\n"}
        if byteorder:
            entries["archive/byteorder"] = byteorder.encode()
        entries |= {f"archive/data/{key}": data for key, (_, _, data) in self.storages.items()}
        return zip_archive(list((entries | (extra or {})).items()))

    def stream(self, value: Any, keys: Any = None) -> bytes:
        info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        keys = list(self.storages) if keys is None else keys
        parts = [pickled(part) for part in (MAGIC, 1001, info, value, keys)]
        parts += [struct.pack("<q", numel) + data for _, numel, data in self.storages.values()]
        return b"".join(parts)

    def tar(self, value: Any, views: Any = ()) -> bytes:
        return tar_archive(self.tar_entries(value, views))

    def tar_entries(self, value: Any, views: Any = ()) -> dict[str, bytes]:
        storages = pickled(len(self.storages))
        for key, (dtype, numel, data) in self.storages.items():
            storages += pickled((int(key), "cpu", storage_type(dtype))) + struct.pack("<q", numel) + data
        storages += pickled(list(views))
        tensors = pickled(len(self.tensors))
        for key, storage, dtype, shape, stride, offset in self.tensors:
            tensors += pickled((key, storage, Name("torch", f"{STORAGE_TYPES[dtype]}Tensor")))
            tensors += struct.pack(f"<i4x{2 * len(shape) + 1}q", len(shape), *shape, *stride, offset)
        return {"sys_info": pickled({}), "pickle": pickled(value), "tensors": tensors, "storages": storages}


def zip_archive(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return content.getvalue()


def tar_archive(entries: dict[str, bytes], **attributes: Any) -> bytes:
    """As torch 0.1 wrote it; a time with a fraction gives each entry a pax header."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1500000000.25
            for attribute, setting in attributes.items():
                setattr(info, attribute, setting)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()
