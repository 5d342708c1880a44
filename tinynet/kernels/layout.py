"""Where the numbers of an activation lie: channels last in memory, under torch's (N, C, H, W) shapes.

A convolution's tile reads all channels of a pixel one after the other and writes 32 of them at once, so a pixel's
channels lie side by side. Arrays keep the shape (N, C, H, W); only their strides tell. Compiled kernels take
`pixels(x)`, the contiguous (N, H, W, C) view of the same memory.

Between the two orders lies a transposition of (C, H·W) matrices. Read along rows and written along columns, each
number would cost a cache line; so it goes block by block, 16 pixels of all channels at a time: the lines that are
written stay in L1 until they are full.
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.kernels.launch import jit, launch, prange, readable
from tinynet.kernels.memory import empty
from tinynet.kernels.registry import runs_compiled

_SMALL = 1 << 14  # numbers; NumPy is as good below
_BLOCK = 16


@jit
def _transpose_compiled(source, target):
    """target (N, B, A) = source (N, A, B), its matrices transposed."""
    batch, height, width = source.shape
    blocks = (width + _BLOCK - 1) // _BLOCK
    for job in prange(batch * blocks):
        n, first = job // blocks, job % blocks * _BLOCK
        last = min(width, first + _BLOCK)
        for row in range(height):
            for column in range(first, last):
                target[n, column, row] = source[n, row, column]


def _transposed(matrices: np.ndarray) -> np.ndarray:
    """(N, A, B) -> contiguous (N, B, A)."""
    if matrices.size < _SMALL or 1 in matrices.shape[1:] or not runs_compiled():
        return np.ascontiguousarray(matrices.transpose(0, 2, 1))
    target = empty((len(matrices), matrices.shape[2], matrices.shape[1]), matrices.dtype)
    launch(_transpose_compiled, readable(matrices), target, cost=matrices.size)
    return target


def channels_last_empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An uninitialised array of `shape` (N, C, ...) whose channels are adjacent in memory."""
    itemsize = np.dtype(dtype).itemsize
    step = itemsize * shape[1]
    strides = []
    for size in reversed(shape[2:]):
        strides.append(step)
        step *= size
    return empty(shape, dtype, (step, itemsize, *reversed(strides)))


def empty_like(array: np.ndarray) -> np.ndarray:
    """An uninitialised array in the memory order of `array`."""
    if array.flags.c_contiguous:
        return empty(array.shape, array.dtype)
    if array.ndim > 2 and _to_channels_last(array).flags.c_contiguous:
        return channels_last_empty(array.shape, array.dtype)
    return np.empty_like(array)


def channels_last(array: np.ndarray) -> np.ndarray:
    """`array` (N, C, ...) with its channels adjacent in memory: itself where they are, else a copy."""
    return _to_channels_first(pixels(array))


def axis_order(array: np.ndarray) -> list[int]:
    """The axes from the outermost to the innermost in memory; those of size 1 lie nowhere."""
    axes = [axis for axis, size in enumerate(array.shape) if size != 1]
    return sorted(axes, key=lambda axis: -abs(array.strides[axis]))


def pixels(array: np.ndarray) -> np.ndarray:
    """The contiguous (N, ..., C) form of `array` (N, C, ...), as compiled kernels read it: a view where possible."""
    if array.flags.c_contiguous and array.ndim > 2 and array.dtype.kind == "f":
        matrices = array.reshape(len(array), array.shape[1], math.prod(array.shape[2:]))
        return _transposed(matrices).reshape(len(array), *array.shape[2:], array.shape[1])
    return readable(_to_channels_last(array))


def row_major(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy of `array`, by blocks if its channels are last in memory."""
    last = _to_channels_last(array) if array.ndim > 2 else array
    if array.ndim > 2 and last.flags.c_contiguous and array.dtype.kind == "f":
        matrices = last.reshape(len(array), math.prod(array.shape[2:]), array.shape[1])
        return _transposed(matrices).reshape(array.shape)
    return array.copy(order="C")


def rows(array: np.ndarray) -> np.ndarray:
    """`array` (N, C, ...) as a contiguous matrix, one row of C channels per pixel: a view where possible."""
    return pixels(array).reshape(math.prod(array.shape[:1] + array.shape[2:]), array.shape[1])


def _to_channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, *range(2, array.ndim), 1)


def _to_channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, array.ndim - 1, *range(1, array.ndim - 1))
