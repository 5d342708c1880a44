"""What crosses the pipe, and that bytes from a stranger are never more than refused."""

from __future__ import annotations

import json
import os
import struct
import threading
import time

import numpy as np
import pytest

from tinynet.grading import messages
from tinynet.grading.messages import Malformed, Unsendable, encode, receive, send


def crossed(value):
    reading, writing = os.pipe()
    writer = threading.Thread(target=send, args=(writing, encode({"do": "x"}, value)))
    writer.start()
    try:
        fields, result = receive(reading, 1 << 30)
    finally:
        writer.join()
        os.close(reading)
        os.close(writing)
    assert fields["do"] == "x"
    return result


@pytest.mark.parametrize("value", [None, True, 3, -(1 << 80), 0.1, float("inf"), "text \0 \ud800", (), [1, (2, [])],
                                   {"a": {"b": (1,)}}])  # fmt: skip
def test_plain_values_cross(value):
    result = crossed(value)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize("array", [
    np.arange(6).reshape(2, 3), np.arange(6.0).reshape(2, 3).T, np.array(2.5), np.empty((0, 4)), np.array([True]),
    np.arange(4, dtype=">i2"), np.ones((2, 3), np.float32)[:, ::2], np.array([1j]), np.ones(1 << 20),
])  # fmt: skip
def test_arrays_cross(array):
    result = crossed([array])[0]
    assert result.shape == array.shape and result.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(result, array) and result.flags.writeable


def test_scalars_keep_their_dtype():
    result = crossed(np.float32(0.1))
    assert type(result) is np.float32 and result == np.float32(0.1)


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([None]), np.array(["a"]), {1, 2}, print, b"bytes",
                                   np.zeros(2, "M8[s]"), np.zeros(2, "i4,f4")])  # fmt: skip
def test_other_values_do_not(value):
    with pytest.raises(Unsendable):
        encode({}, [value])


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_depth_and_size_are_limited():
    with pytest.raises(Unsendable, match="nested"):
        encode({}, nested(1000))
    with pytest.raises(Unsendable, match="characters"):
        encode({}, "x" * (messages.LARGEST_HEADER + 1))


def frame(header: bytes, *arrays: bytes) -> bytes:
    return struct.pack(">4sI", b"tng1", len(header)) + header + b"".join(arrays)


def npy(header: str, data: bytes = b"") -> bytes:
    padded = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def with_array(raw: bytes) -> bytes:
    return frame(json.dumps({"value": {"array": 0}, "sizes": [len(raw)]}).encode(), raw)


BAD = {
    "noise": b"noise noise noise noise",
    "huge header": struct.pack(">4sI", b"tng1", 1 << 31),
    "no json": frame(b"{"),
    "deep json": frame(b"[" * 50_000),
    "a list": frame(b"[]"),
    "no sizes": frame(b"{}"),
    "negative size": frame(b'{"sizes": [-1]}'),
    "boolean size": frame(b'{"sizes": [true]}', b"x"),
    "too much": frame(b'{"sizes": [1000000000000]}'),
    "missing array": frame(b'{"sizes": [], "value": {"array": 0}}'),
    "unknown kind": frame(b'{"sizes": [], "value": {"object": 0}}'),
    "bare list": frame(b'{"sizes": [], "value": [1]}'),
    "huge integer": frame(b'{"sizes": [], "value": ' + b"9" * 5000 + b"}"),
    "deep value": frame(json.dumps({"sizes": [], "value": json.loads('{"list":[' * 50 + "]}" * 50)}).encode()),
    "no npy": with_array(b"hello"),
    "object array": with_array(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n.")),
    "lying shape": with_array(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,)}", bytes(8))),
    "negative shape": with_array(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8))),
    "structured": with_array(npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", bytes(8))),
    "code in the header": with_array(npy("__import__('os').abort()")),
    "text array": with_array(npy("{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}", bytes(8))),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_bytes_are_refused(name):
    reading, writing = os.pipe()
    os.write(writing, BAD[name])
    os.close(writing)
    with pytest.raises(Malformed):
        receive(reading, 1 << 20)
    os.close(reading)


def test_other_bytes_in_a_bool_array_are_true():
    reading, writing = os.pipe()
    os.write(writing, with_array(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", b"\x00\x01\x07")))
    _, array = receive(reading, 1 << 20)
    assert array.view(np.uint8).tolist() == [0, 1, 1]
    os.close(reading)
    os.close(writing)


def test_deadlines_hold_in_both_directions():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        receive(reading, 1, started + 0.05)
    with pytest.raises(TimeoutError):
        send(writing, bytes(1 << 22), started + 0.1)
    assert time.monotonic() - started < 2
    os.close(reading)
    os.close(writing)
