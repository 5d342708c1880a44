"""The IDX file format of MNIST and its successors: a typed array with its shape, big-endian, maybe gzipped.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "The IDX file format".
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from tinynet.errors import DataError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, in the machine's byte order; files that begin as gzip does are unpacked.

    Raises:
        DataError: unreadable, wrong magic number, truncated or with bytes left over; it names the path.
    """
    path = Path(path)
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in DTYPES:
        raise DataError(f"{path} is not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}")
    dtype, dimensions = np.dtype(DTYPES[content[2]]), content[3]
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise DataError(f"{path} is truncated: {len(content)} bytes, its header alone has {header}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    expected = header + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{path} is {problem}: {len(content)} bytes, shape {shape} of {dtype.name} needs {expected}")
    return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except EOFError as error:
        raise DataError(f"{path} is truncated: the gzip stream ends too early") from error
    except zlib.error as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except OSError as error:  # gzip.BadGzipFile too
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
