"""Files that try to run code, to exhaust memory, to read outside of their data, or to pass for others.

Each builder returns the file's bytes; `MARKER` is the file that code in them would create, in the current folder.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.checkpoint import torch_writer as writer
from tests.checkpoint.torch_writer import Build, Call, File, Name, Raw, Reference, encode, pickled

MARKER = "executed"
COMMAND = f"touch {MARKER}"
PYTHON = f"open('{MARKER}', 'w')"
SET_STATE = {"__setstate__": Name("os", "system")}


def _nested(opener: bytes, closer: bytes, depth: int) -> Raw:
    return Raw(opener * depth + closer * depth)


# Values whose pickles must be refused, whatever the layout
CODE: dict[str, Any] = {
    "os.system": Call(Name("os", "system"), (COMMAND,)),
    "posix.system": Call(Name("posix", "system"), (COMMAND,)),
    "eval": Call(Name("builtins", "eval"), (PYTHON,)),
    "eval of Python 2": Call(Name("__builtin__", "eval"), (PYTHON,)),
    "getattr": Call(Name("builtins", "getattr"), (Name("os", "system"), "__call__")),
    "dotted name": Call(Name("collections", "OrderedDict.fromkeys"), ((1, 2),)),
    "dotted name of a module": Call(Name("torch", "os.system"), (COMMAND,)),
    "torch.load": Call(Name("torch", "load"), (MARKER,)),
    "nested pickle": Call(Name("pickle", "loads"), (COMMAND,)),
    "nested torch storage pickle": Call(Name("torch.storage", "_load_from_bytes"), (COMMAND,)),
    "whole model": Call(Name("torchvision.models.resnet", "ResNet"), ()),
    "copyreg": Call(Name("copy_reg", "_reconstructor"), (Name("os", "system"), Name("builtins", "object"), None)),
    "numpy object": Call(Name("numpy.core.multiarray", "_reconstruct"), (Name("numpy", "ndarray"), (0,), "b")),
    "STACK_GLOBAL": Raw(encode("posix") + encode("system") + b"\x93" + encode((COMMAND,)) + b"R"),
    "INST": Raw(b"(" + encode(COMMAND) + b"ios\nsystem\n"),
    "OBJ": Raw(b"(" + encode(Name("torch", "Size")) + encode(()) + b"o"),
    "NEWOBJ": Raw(encode(Name("collections", "OrderedDict")) + b")\x81"),
    "NEWOBJ_EX": Raw(encode(Name("collections", "OrderedDict")) + b")}\x92"),
    "EXT1": Raw(b"\x82\x01"),
    "PERSID": Raw(b"Pos.system\n"),
    "text INT": Raw(b"I42\n"),
    "call of a result": Call(Call(writer.ORDERED_DICT, ()), ()),
    "call of a dtype": Call(Name("torch", "float32"), ()),
    "call with a list": Raw(encode(writer.ORDERED_DICT) + b"]R"),
    "state of a name": Build(writer.REBUILD, {"build": 1}),
    "state of a name by slots": Build(writer.REBUILD, (None, {"build": 1})),
    "state of a class": Build(writer.ORDERED_DICT, {"items": 1}),
    "state of a dict": Build({}, SET_STATE),
    "state of a list": Build([], [1]),
    "state that replaces methods": Build(Call(writer.ORDERED_DICT, ()), {"items": 1}),
    "state that replaces the class": Build(Call(writer.ORDERED_DICT, ()), {"__class__": 1}),
    "state by slots": Build(Call(writer.ORDERED_DICT, ()), (None, {"items": 1})),
    "set state as a function": Build(Call(writer.ORDERED_DICT, ()), SET_STATE),
    "hooks": Call(writer.REBUILD, (1, 0, (1,), (1,), False, Name("os", "system"))),
    "module source": Reference(("module", Name("os", "system"), "file.py", "source")),
}

# Values that exhaust memory, time or the stack of a careless reader
EXHAUSTING: dict[str, Any] = {
    "lists 200,000 deep": _nested(b"](", b"e", 200_000),
    "tuples 300,000 deep": Raw(b")" + b"\x85" * 300_000),
    "deep key": Raw(b"})" + b"\x85" * 300_000 + b"Ns"),
    "deep set item": Raw(b"\x8f()" + b"\x85" * 300_000 + b"\x90"),
    "deep shape": Call(writer.REBUILD, (1, 0, Raw(b")" + b"\x85" * 300_000), (), False, None)),
    "dictionaries 200,000 deep": Raw((b"}" + encode("a")) * 200_000 + b"N" + b"s" * 200_000),
    "a list in itself": Raw(b"]\x94h\x00a"),
    "a dictionary in itself": Raw(b"}\x94" + encode("a") + b"h\x00s"),
    "attributes in themselves": Raw(
        encode(Call(writer.ORDERED_DICT, ())) + b"\x94}" + encode("_metadata") + b"h\x00sb"
    ),
    "billion laughs": Raw(
        encode("ha") + b"".join(b"r%b(" % struct.pack("<I", i) + b"j%b" % struct.pack("<I", i) * 10 + b"t"
        for i in range(60))
    ),
    "eight million dictionaries": Raw(b"}" * 2**23),
    "half a million memos": Raw(b"".join(b"}r" + struct.pack("<I", i) for i in range(2**19))),
    "a million sets": Raw(b"\x8f" * 10**6),
    "ordered dictionaries": Raw(encode(writer.ORDERED_DICT) + b"q\x00" + b"h\x00)R" * 2**18),
    "a string of 4 GB": Raw(b"X\xff\xff\xff\xff"),
    "bytes of 4 GB": Raw(b"B\xff\xff\xff\xff"),
    "a string of 2**63 bytes": Raw(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "a bytearray of 2**40 bytes": Raw(b"\x96" + struct.pack("<Q", 2**40)),
    "a number of 2 GB": Raw(b"\x8b\xff\xff\xff\x7f"),
    "a memo of 64 GB, then garbage": Raw(b"Nr\xff\xff\xff\xff\x00"),
    "a bytearray by count": Call(Name("builtins", "bytearray"), (2**40,)),
    "bytes by count": Call(Name("builtins", "bytes"), (2**40,)),
    "a long message": Build(Call(writer.ORDERED_DICT, ()), {"items" + "s" * 900_000: 1, "items": 1}),
}  # fmt: skip

# Pickles that are merely wrong
MALFORMED: dict[str, Any] = {
    "an empty stack": Raw(b"0"),
    "no value": Raw(b""),
    "two values": Raw(b"NN"),
    "a value in a mark": Raw(b"(N"),
    "a mark without an end": Raw(b"("),
    "an end without a mark": Raw(b"t"),
    "an unknown memo": Raw(b"h\x05"),
    "a tuple of too few": Raw(b"N\x87"),
    "items of an odd number": Raw(b"}(" + encode("a") + b"u"),
    "text that is no UTF-8": Raw(b"X\x02\x00\x00\x00\xff\xff"),
    "a list as a key": Raw(b"}]Ns"),
    "a key twice": Raw(b"}(" + encode("a") * 4 + b"u"),
    "a bare storage type": Name("torch", "FloatStorage"),
    "a bare function": writer.REBUILD,
    "too many arguments": Call(writer.ORDERED_DICT, (1, 2, 3)),
    "a storage reference of one field": Reference(("storage",)),
    "a storage reference that is a text": Reference("storage"),
    "an endless name": Raw(b"c" + b"a" * 1000 + b"\nb\n"),
    "items for a tuple": Raw(b")Na"),
}


def tensor_of(shape: Any, stride: Any, offset: Any = 0, numel: Any = None, elements: int = 12) -> Callable[[File], Any]:
    """A state_dict with one tensor over a storage of `elements` float32."""

    def build(file: File) -> Any:
        key = file.storage(np.arange(elements, dtype=np.float32))
        return {"weight": file.strided(key, offset, shape, stride, numel=numel)}

    return build


# Tensors that reach outside of their storage, or are none
TENSORS: dict[str, Callable[[File], Any]] = {
    "a shape larger than the storage": tensor_of((13,), (1,)),
    "an offset behind the storage": tensor_of((1,), (1,), 12),
    "strides out of the storage": tensor_of((2, 2), (11, 1)),
    "a negative offset": tensor_of((1,), (1,), -1),
    "a negative size": tensor_of((-1,), (1,)),
    "a negative stride": tensor_of((2,), (-1,), 5),
    "a size that overflows": tensor_of((2**62, 4), (0, 0)),
    "a size beyond int64": tensor_of((2**64,), (0,)),
    "a size 0 beside others that overflow": tensor_of((0, 2**62, 2**62), (1, 1, 1)),
    "a stride that overflows": tensor_of((1,), (2**63 - 1,)),
    "an expanded tensor of 4 TB": tensor_of((2**40,), (0,)),
    "a storage that states more than it has": tensor_of((12,), (1,), numel=13),
    "a storage that states 2**62 elements": tensor_of((2**40,), (1,), numel=2**62),
    "a storage that states less than it has": tensor_of((11,), (1,), numel=11),
    "a storage of negative size": tensor_of((1,), (1,), numel=-1),
    "a size that is true": tensor_of((True,), (1,)),
    "a size that is text": tensor_of(("1",), (1,)),
    "a size that is a float": tensor_of((1.0,), (1,)),
    "more sizes than strides": tensor_of((2, 2), (1,)),
    "65 dimensions": tensor_of((1,) * 65, (1,) * 65),
    "a shape that is a number": tensor_of(3, 1),
}


def rewrite_directory(content: bytes, name: str, **fields: int) -> bytes:
    """A zip archive whose directory says something else of entry `name`: size, compressed_size, crc, header."""
    data = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        at = archive.start_dir
    offsets = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "compressed_size": (20, "<L"),
               "size": (24, "<L"), "header": (42, "<L")}  # fmt: skip
    while data[at : at + 4] == b"PK\x01\x02":
        lengths = struct.unpack_from("<3H", data, at + 28)
        if data[at + 46 : at + 46 + lengths[0]] == name.encode():
            for key, setting in fields.items():
                struct.pack_into(offsets[key][1], data, at + offsets[key][0], setting)
        at += 46 + sum(lengths)
    return bytes(data)


def zip_bomb(megabytes: int = 400) -> bytes:
    """A pickle that inflates to `megabytes` from a thousandth of it."""
    zeros = b"}" * (megabytes * 2**20)
    return writer.zip_archive([("archive/data.pkl", zeros)], zipfile.ZIP_DEFLATED)


def storage_bomb(megabytes: int = 400) -> bytes:
    """A storage that does."""
    file = File()
    numel = megabytes * 2**18
    file.storages["0"] = ("float32", numel, b"")
    value = {"weight": file.strided("0", 0, (numel,), (1,))}
    content = io.BytesIO(writer.zip_archive([("archive/data.pkl", pickled(value))]))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(4 * numel))
    return content.getvalue()


def lying_sizes(size: int = 2**31) -> bytes:
    """A small archive whose directory gives a storage gigabytes."""
    file = File()
    content = file.zip({"weight": file.tensor(np.arange(12, dtype=np.float32))})
    return rewrite_directory(content, "archive/data/0", size=size, compressed_size=size)


def many_entries(count: int = 60_000) -> bytes:
    """A directory of `count` entries that states ten times as many."""
    file = File()
    content = bytearray(file.zip({}))
    end = content.rfind(b"PK\x05\x06")
    struct.pack_into("<2H", content, end + 8, 65_000, 65_000)
    return bytes(content)


def huge_directory() -> bytes:
    """A 64-bit directory that states 2**40 entries in 2**50 bytes."""
    content = File().zip({})
    end = content.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**40, 2**40, 2**50, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:end] + record + locator + tail


def duplicate_entries() -> bytes:
    """Two entries data/0: readers that take the first and those that take the last see different weights."""
    file = File()
    value = {"weight": file.tensor(np.zeros(3, np.float32))}
    entries = [("archive/data.pkl", pickled(value)), ("archive/data/0", bytes(12)), ("archive/data/1", b"\1" * 12)]
    return writer.zip_archive(entries).replace(b"archive/data/1", b"archive/data/0")


def overlapping_entries() -> bytes:
    """Two storages at the same place: a small file whose tensors would fill the memory."""
    file = File()
    content = file.zip({str(i): file.tensor(np.zeros(64, np.float32)) for i in range(2)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        offset = archive.getinfo("archive/data/0").header_offset
    return rewrite_directory(content, "archive/data/1", header=offset)


def escaping_zip(name: str) -> bytes:
    return File().zip({}, extra={name: b"content"})


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, weight=np.zeros(3))
    return content.getvalue()


def torchscript() -> bytes:
    return File().zip({}, extra={"archive/constants.pkl": pickled(()), "archive/code/model.py": b"code"})


def document() -> bytes:
    return writer.zip_archive([("[Content_Types].xml", b"<x/>" * 50), ("word/document.xml", b"<x/>" * 50)], 8)
