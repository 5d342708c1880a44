"""IDX files: what is read, and what is refused with the path."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tinynet.data import read_idx
from tinynet.errors import DataError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 28, 28)])
@pytest.mark.parametrize("zipped", [False, True])
def test_round_trip(tmp_path: Path, dtype: str, shape: tuple[int, ...], zipped: bool) -> None:
    array = (np.arange(np.prod(shape)) * 7 % 100).reshape(shape).astype(dtype)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    result = read_idx(path)
    assert result.dtype == array.dtype and np.array_equal(result, array)
    assert result.dtype.isnative


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))
ZIPPED = gzip.compress(GOOD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00", "not an IDX file"),
        (b"PK\x03\x04" + GOOD, "not an IDX file"),
        (b"\x00\x00\x07\x01" + GOOD[4:], "not an IDX file"),
        (GOOD[:7], "truncated"),
        (GOOD[:-1], "truncated: 23 bytes"),
        (GOOD + b"\x00", "too long"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "truncated"),
        (ZIPPED[:-9], "truncated"),
        (ZIPPED[:20] + b"\xff\xff\xff" + ZIPPED[23:], "damaged|cannot be read|truncated"),
        (b"\x1f\x8b", "truncated|cannot be read"),
    ],
)
def test_bad_files_are_refused_with_their_path(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="directory"):
        read_idx(tmp_path)
