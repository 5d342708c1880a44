"""Memory of large results, used again.

The system gives out memory in pages that it fills with zeros first, which takes as long as a kernel needs to write
its result: of a training step a tenth. So the memory of an array that is no longer needed is kept and becomes the
next one of about its size; it is often still in a cache. A block returns here when the last array that shows
it is gone, views included. What lies idle is bounded; `release` gives it back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

_SMALLEST = 1 << 18  # bytes; the C library keeps smaller pieces itself
_MOST_IDLE = 1 << 28  # bytes

_idle: defaultdict[int, list[np.ndarray]] = defaultdict(list)


class _Block:
    """The owner of a block while arrays show it: NumPy keeps it as their base."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self, most: int = _MOST_IDLE) -> None:
        # A list's append is one step, so a garbage collection in the middle of `empty` does no harm.
        if idle_bytes() + self.memory.size <= most:
            _idle[self.memory.size].append(self.memory)


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An uninitialised C-contiguous array, as np.empty."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize * math.prod(shape)
    if size < _SMALLEST:
        return np.empty(shape, dtype)
    rounded = _rounded(size)
    try:
        memory = _idle[rounded].pop()
    except IndexError:
        memory = _fresh(rounded)
    block: Any = _Block(memory)
    return np.asarray(block)[:size].view(dtype).reshape(shape)


def _rounded(size: int) -> int:
    """Up to the next eighth of a power of two, so that arrays of nearly one size share their blocks."""
    step = 1 << max(12, size.bit_length() - 4)
    return -(-size // step) * step


def _fresh(size: int) -> np.ndarray:
    try:
        return np.empty(size, np.uint8)
    except MemoryError:
        release()
        return np.empty(size, np.uint8)


def idle_bytes() -> int:
    """How much memory waits to be used again."""
    return sum(size * len(blocks) for size, blocks in list(_idle.items()))


def release() -> None:
    """Gives all idle memory back to the system."""
    _idle.clear()
