"""Memory of large results, used again.

The system gives out memory in pages that it fills with zeros first, which takes as long as a kernel needs to write
its result: of a training step a tenth. So the memory of an array that is no longer needed is kept and becomes the
next one of about its size; it is often still in a cache. A block returns here when the last array that shows
it is gone, views included. What lies idle is bounded; `release` gives it back. Blocks begin with a line of cache:
a vector of 64 bytes that lies across two lines takes two loads.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

_SMALLEST = 1 << 18  # bytes; the C library keeps smaller pieces itself
_LINE = 64  # bytes


def of_this_machine() -> int | None:
    """Bytes of memory that the machine has; None where it does not say."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


# What a training step of ResNet-50 at batch 8 gives back at its end, but not more than an eighth of the memory.
_MOST_IDLE = min(1 << 30, (of_this_machine() or 1 << 31) // 8)


class _Piece(NamedTuple):
    """Memory of the system, and the address of its first whole line."""

    memory: np.ndarray
    address: int
    size: int


_idle: defaultdict[int, list[_Piece]] = defaultdict(list)
_idle_bytes = [0]


class _Block:
    """The owner of a piece while arrays show it: NumPy keeps it as their base."""

    __slots__ = ("__array_interface__", "piece")

    def __init__(self, piece: _Piece, interface: dict[str, Any]) -> None:
        self.piece = piece
        self.__array_interface__ = interface

    def __del__(self, most: int = _MOST_IDLE) -> None:
        # Every line is one step for other threads and for a garbage collection in the middle of `empty`.
        piece = self.piece
        if _idle_bytes[0] + piece.size <= most:
            _idle_bytes[0] += piece.size
            _idle[piece.size].append(piece)


def empty(shape: tuple[int, ...], dtype: np.dtype | type, strides: tuple[int, ...] | None = None) -> np.ndarray:
    """An uninitialised array, as np.empty; `strides` (bytes) for an order without gaps that is not row-major."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize * math.prod(shape)
    if size < _SMALLEST:
        return np.ndarray(shape, dtype, strides=strides)
    rounded = _rounded(size)
    try:
        piece = _idle[rounded].pop()
        _idle_bytes[0] -= rounded
    except IndexError:
        piece = _fresh(rounded)
    block: Any = _Block(
        piece,
        {"data": (piece.address, False), "shape": shape, "typestr": dtype.str, "strides": strides, "version": 3},
    )
    return np.asarray(block)


def is_whole(array: np.ndarray) -> bool:
    """Whether `array` is all of its memory and not a view of another array: nobody else shows it without it."""
    base = array.base
    return base is None or type(base) is _Block


def _rounded(size: int) -> int:
    """Up to the next eighth of a power of two, so that arrays of nearly one size share their blocks."""
    step = 1 << max(12, size.bit_length() - 4)
    return -(-size // step) * step


def _fresh(size: int) -> _Piece:
    try:
        memory = np.empty(size + _LINE, np.uint8)
    except MemoryError:
        release()
        memory = np.empty(size + _LINE, np.uint8)
    return _Piece(memory, -(-memory.ctypes.data // _LINE) * _LINE, size)


def idle_bytes() -> int:
    """How much memory waits to be used again."""
    return _idle_bytes[0]


def release() -> None:
    """Gives all idle memory back to the system."""
    for pieces in list(_idle.values()):
        while pieces:
            _idle_bytes[0] -= pieces.pop().size
