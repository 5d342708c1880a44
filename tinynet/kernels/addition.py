"""Sums of two arrays of one shape in one memory order: the residual connection, and gradients that meet on the tape.

An addition does next to nothing with each number it fetches, so its time is that of the trip through memory. Where
one array has its channels last in memory and the other does not, neighbours in the one lie far apart in the other:
every number costs a cache line, and the sum takes ten times as long. So the stranger is first copied into the
other's order (a third of the price), and the sum has the order that the next kernel wants. In one order NumPy's own
loop already runs at the speed of memory: a compiled one, on one thread or two, was not faster.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.layout import axis_order, empty_like

_SMALL = 1 << 12  # elements; below, the order does not matter: all of it is in the first-level cache


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, broadcast. If the memory orders differ, the result has that of the one that is not C-contiguous."""
    if a.size < _SMALL or a.shape != b.shape:
        return a + b
    if a.strides == b.strides and a.dtype == b.dtype and a.dtype.kind == "f":
        return np.add(a, b, out=empty_like(a))
    if _same_order(a, b):
        return a + b
    if a.flags.c_contiguous:
        return _in_order_of(b, a) + b
    return a + _in_order_of(a, b)


def add_into(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a += b, broadcast; returns a."""
    if a.size < _SMALL or a.shape != b.shape or _same_order(a, b):
        return np.add(a, b, out=a)
    return np.add(a, _in_order_of(a, b), out=a)


def _same_order(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether one trip visits both in order; an expanded array (stride 0) can join any trip."""
    return a.strides == b.strides or axis_order(a) == axis_order(b) or 0 in a.strides or 0 in b.strides


def _in_order_of(model: np.ndarray, array: np.ndarray) -> np.ndarray:
    copied = np.empty_like(model, array.dtype)
    copied[...] = array
    return copied
