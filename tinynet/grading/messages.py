"""Values over a pipe without pickle: a JSON header, then every array in NumPy's .npy format.

What crosses: None, bool, int, float, str, arrays and scalars of numbers and booleans, and tuples, lists and dicts
(with str keys) of these. Also run inside of the sandbox, so this file imports nothing of the package.
"""

from __future__ import annotations

import io
import json
import math
import os
import select
import struct
import time
from typing import Any

import numpy as np

MAGIC = b"tng1"
LARGEST_HEADER = 4_000_000
DEEPEST = 20
MOST_ARRAYS = 10_000
_PREFIX = struct.Struct(">4sI")


class Unsendable(TypeError):
    """A value that does not cross; the text names its type."""


class Malformed(ValueError):
    """Bytes that are no message."""


def encode(fields: dict[str, Any], value: Any = None) -> bytes:
    """One message: `fields` (plain JSON) and a value. Raises Unsendable."""
    arrays: list[bytes] = []
    tree = _pack(value, arrays, 0)
    header = json.dumps({**fields, "value": tree, "sizes": [len(array) for array in arrays]}).encode()
    if len(header) > LARGEST_HEADER:
        raise Unsendable(f"more than {LARGEST_HEADER:,} characters beside the arrays")
    return b"".join([_PREFIX.pack(MAGIC, len(header)), header, *arrays])


def send(descriptor: int, message: bytes, deadline: float | None = None) -> None:
    """Writes the whole message. Raises BrokenPipeError, and TimeoutError at `deadline` (of time.monotonic).

    A deadline holds only for a descriptor that does not block.
    """
    rest = memoryview(message)
    while rest:
        _wait(descriptor, select.POLLOUT, deadline)
        rest = rest[os.write(descriptor, rest[: 1 << 20]) :]


def receive(descriptor: int, limit: int, deadline: float | None = None) -> tuple[dict[str, Any], Any]:
    """The next message: its fields and its value, with arrays of at most `limit` bytes together.

    Raises Malformed, EOFError where the other side has gone, TimeoutError at `deadline` (of time.monotonic).
    """
    magic, length = _PREFIX.unpack(_read(descriptor, _PREFIX.size, deadline))
    if magic != MAGIC or length > LARGEST_HEADER:
        raise Malformed("it does not begin like a message")
    try:
        header = json.loads(_read(descriptor, length, deadline))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its header is not JSON: {error}") from None
    sizes = header.pop("sizes", None) if isinstance(header, dict) else None
    if not isinstance(sizes, list) or len(sizes) > MOST_ARRAYS or not all(type(s) is int and s >= 0 for s in sizes):
        raise Malformed("its header does not list its arrays")
    if sum(sizes) > limit:
        raise Malformed(f"its arrays have {sum(sizes) / 1e6:,.0f} MB, allowed are {limit / 1e6:,.0f} MB")
    arrays = [_array(_read(descriptor, size, deadline)) for size in sizes]
    value = _unpack(header.pop("value", None), arrays, 0)
    return header, value


def _pack(value: Any, arrays: list[bytes], depth: int) -> Any:
    if depth > DEEPEST:
        raise Unsendable(f"a value nested more than {DEEPEST} deep")
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc" or array.dtype.itemsize > 16:
            raise Unsendable(f"an array of dtype {array.dtype}")
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
        arrays.append(file.getvalue())
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(arrays) - 1}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(item, arrays, depth + 1) for item in value]}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise Unsendable(f"a dict with a key of type {type(key).__name__}")
        return {"dict": {key: _pack(item, arrays, depth + 1) for key, item in value.items()}}
    raise Unsendable(f"an object of type {type(value).__name__}")


def _unpack(tree: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise Malformed("a bare list in its header")
        return tree
    if len(tree) != 1 or depth > DEEPEST:
        raise Malformed("its header describes no value")
    (kind, content), = tree.items()
    if kind in ("array", "scalar") and type(content) is int and 0 <= content < len(arrays):
        array = arrays[content]
        if kind == "scalar" and array.ndim:
            raise Malformed("a scalar with axes")
        return array if kind == "array" else array[()]
    if kind in ("tuple", "list") and isinstance(content, list):
        items = [_unpack(item, arrays, depth + 1) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict" and isinstance(content, dict):
        return {key: _unpack(item, arrays, depth + 1) for key, item in content.items()}
    raise Malformed("its header describes no value")


def _array(raw: bytes) -> np.ndarray:
    """The array of one .npy file, whose header must fit its size exactly."""
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=10_000)
    except Exception as error:  # NumPy parses a dictionary there, which fails in many ways
        raise Malformed(f"no array in NumPy's format: {error}"[:200]) from None
    if dtype.kind not in "biufc" or dtype.hasobject or dtype.itemsize > 16:
        raise Malformed(f"an array of dtype {dtype}")
    start = file.tell()
    if len(shape) > 32 or any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(raw) - start:
        raise Malformed(f"an array of shape {shape} does not fit into {len(raw) - start} bytes")
    flat = np.frombuffer(raw, dtype, offset=start).astype(dtype.newbyteorder("="))
    if dtype.kind == "b":
        flat = flat.view(np.uint8) != 0  # any other byte in a bool would misbehave
    return flat.reshape(shape, order="F" if fortran else "C")


def _read(descriptor: int, count: int, deadline: float | None) -> bytes:
    parts, missing = [], count
    while missing:
        _wait(descriptor, select.POLLIN, deadline)
        part = os.read(descriptor, min(missing, 1 << 20))
        if not part:
            raise EOFError("the other side has gone")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    if deadline is None:
        return
    ready = select.poll()
    ready.register(descriptor, event)
    if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("no answer in time")
