"""Elementwise kernels and the sum over channels: ReLU, the fused scale-shift-residual-ReLU, bias gradients.

What is in cache when. An activation of 8x64x56x56 float32 takes 6.4 MB: more than L2 holds, so every kernel here
costs what its trip through memory costs, and each reads its inputs once and writes its result once.
- Memory is one long row of numbers (channels last: pixel after pixel, its C channels side by side). ReLU does
  not care where a channel is and runs along it in whatever order the array has.
- Where a channel has its own number (scale, shift, sum), the long row is cut into lines of about 512 numbers, a
  whole number of pixels: the channels' numbers are repeated to the length of a line once, and stay in L1 (2 KB
  each) while lines stream past. So the inner loop is 512 long, and in full vectors, even with 1, 3 or 17 channels.
- Sums: a block of lines is added up into one line of float64, in L1 too, four lines at a time so that loads and
  stores of the sums do not take longer than reading x; the blocks' lines are added in order at the end. Blocks
  follow from the shape alone, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.launch import inner, jit, launch, prange, readable
from tinynet.kernels.layout import channels_last_empty, rows
from tinynet.kernels.memory import empty
from tinynet.kernels.registry import Kernel, runs_compiled


def _relu_loops(x):
    y = np.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        y[index] = 0 if x[index] <= 0 else x[index]  # a NaN is not <= 0 and stays
    return y


def _relu_backward_loops(grad, y):
    grad_x = np.empty(y.shape, grad.dtype)
    for index in np.ndindex(y.shape):
        grad_x[index] = 0 if y[index] <= 0 else grad[index]
    return grad_x


def _scale_shift_loops(x, scale, shift, residual, relu):
    y = np.empty(x.shape, x.dtype)
    for n, c, k in np.ndindex(x.shape):
        value = x[n, c, k] * scale[c] + shift[c]
        if residual is not None:
            value += residual[n, c, k]
        y[n, c, k] = 0 if relu and value <= 0 else value
    return y


def _channel_sum_loops(x):
    total = np.zeros(x.shape[1], np.float64)
    for index in np.ndindex(x.shape):
        total[index[1]] += x[index]
    return total.astype(x.dtype)


def _relu_numpy(x):
    """max(x, 0) for any shape; NaN stays NaN."""
    return np.maximum(x, x.dtype.type(0), order="C")


def _relu_backward_numpy(grad, y):
    """Gradient of ReLU from its output y: grad where y > 0, else 0 (also at 0)."""
    return np.asarray(np.where(y <= 0, grad.dtype.type(0), grad), order="C")


def _scale_shift_numpy(x, scale, shift, residual, relu):
    """x·scale + shift [+ residual], then ReLU on request; x (N, C, L), scale and shift (C,)."""
    y = np.multiply(x, scale.reshape(-1, 1), order="C")
    y += shift.reshape(-1, 1)
    if residual is not None:
        y += residual
    return np.maximum(y, y.dtype.type(0), out=y) if relu else y


def _channel_sum_numpy(x):
    """Sum of x (N, C, ...) over every axis but 1, accumulated in float64."""
    axes = (0, *range(2, x.ndim))
    return x.sum(axes, dtype=np.float64).astype(x.dtype)


# --- Numba -------------------------------------------------------------------------------------------------

# An index known to be at least 0: for others Numba adds a test for a negative one, which keeps vectors from forming.
at = np.uint64

# A launch costs 10 us, as much as NumPy needs for this many elements.
_SMALL = 1 << 14

_LINE = 512  # numbers per line, where a pixel has fewer
_MOST_BLOCKS = 64
_FEWEST_LINES = 32  # per block: a block's sums are then little beside what it reads


@jit
def _relu_compiled(x, y):
    zero = x.dtype.type(0)
    for k in prange(x.size):
        value = x[k]
        y[k] = zero if value <= 0 else value


@jit
def _relu_in_place_compiled(y):
    # one array: with two that might overlap the compiler must fall back to one number at a time
    zero = y.dtype.type(0)
    for k in prange(y.size):
        value = y[k]
        y[k] = zero if value <= 0 else value


@jit
def _relu_backward_compiled(grad, y, grad_x):
    zero = grad.dtype.type(0)
    for k in prange(y.size):
        grad_x[k] = zero if y[k] <= 0 else grad[k]


@jit
def _scale_shift_compiled(x, scale, shift, residual, has_residual, floor, y):
    line = scale.size
    floor = x.dtype.type(floor)
    for number in prange((x.size + line - 1) // line):
        first = number * line
        count = min(line, x.size - first)
        if has_residual:
            for k in range(count):
                value = x[at(first + k)] * scale[k] + shift[k] + residual[at(first + k)]
                y[at(first + k)] = floor if value <= floor else value
        else:
            for k in range(count):
                value = x[at(first + k)] * scale[k] + shift[k]
                y[at(first + k)] = floor if value <= floor else value


@inner
def fold_line(sums, totals):
    """totals (C,) = the sums of a line of whole pixels, pixel after pixel."""
    channels = len(totals)
    for c in range(channels):
        totals[c] = sums[c]
    for first in range(channels, len(sums), channels):
        for c in range(channels):
            totals[c] += sums[first + c]


@jit
def _channel_sum_compiled(x, lines, line, partial):
    for block in prange(len(partial)):
        sums = np.zeros(line)
        first = block * lines * line
        stop = min(first + lines * line, x.size)
        while first + 4 * line <= stop:
            for k in range(line):
                pair = x[at(first + k)] + x[at(first + line + k)]
                sums[k] += pair + (x[at(first + 2 * line + k)] + x[at(first + 3 * line + k)])
            first += 4 * line
        while first < stop:
            for k in range(min(line, stop - first)):
                sums[k] += x[at(first + k)]
            first += line
        fold_line(sums, partial[block])


def line_length(size: int, channels: int) -> int:
    """Numbers per line: whole pixels, about `_LINE` numbers, at least one pixel and at most all of them."""
    return channels * max(1, min(size // channels, _LINE // channels))


def lines_of(length: int, *vectors: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Vectors (..., C), each repeated to the length of a line: (vectors, ..., length)."""
    *sets, channels = vectors[0].shape
    lines = np.empty((len(vectors), *sets, length // channels, channels), dtype)
    for line, vector in zip(lines, vectors):
        line[...] = vector[..., None, :]
    return lines.reshape(len(vectors), *sets, length)


def block_lines(size: int, length: int) -> tuple[int, int]:
    """How many lines a block of sums takes, and how many blocks there are."""
    lines = -(-size // length)
    each = max(_FEWEST_LINES, -(-lines // _MOST_BLOCKS))
    return each, -(-lines // each)


def _memory(array: np.ndarray) -> np.ndarray | None:
    """The numbers of an array as one row in the order of its memory: a view, or None where there are gaps."""
    if not array.flags.aligned or not array.size:
        return None
    if array.flags.c_contiguous:
        return readable(array).reshape(-1)
    inner = array.transpose(0, *range(2, array.ndim), 1) if array.ndim > 2 else array
    return readable(inner).reshape(-1) if inner.flags.c_contiguous else None


def _result_like(x: np.ndarray) -> np.ndarray:
    """An empty array in the order of x: C order where x has it or has no channels, else channels last."""
    plain = x.flags.c_contiguous or x.ndim < 3
    return empty(x.shape, x.dtype) if plain else channels_last_empty(x.shape, x.dtype)


def _in_order_of(array: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The numbers of `array` as one row in the order of `y`: a view where it has that order, else a copy."""
    return (readable(array) if y.flags.c_contiguous else rows(array)).reshape(-1)


def relu_into(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """ReLU of x written to `out`, which may be x itself (one pass in place); any shape and layout."""
    if not runs_compiled("relu"):
        out[...] = relu(x)
        return out
    target = None if x.size < _SMALL else _memory(out)
    if target is None:
        return np.maximum(x, x.dtype.type(0), out=out)
    if x is out:
        launch(_relu_in_place_compiled, target, cost=0.15 * x.size)
    else:
        launch(_relu_compiled, _in_order_of(x, out), target, cost=0.25 * x.size)
    return out


def scale_shift_into(x, scale, shift, residual, relu, out) -> np.ndarray:
    """`scale_shift` of x (N, C, ...) written to `out`, which is channels last and none of the inputs."""
    if not runs_compiled("scale_shift"):
        flat = (*x.shape[:2], -1)
        other = None if residual is None else residual.reshape(flat)
        out[...] = scale_shift(x.reshape(flat), scale, shift, other, relu).reshape(x.shape)
    elif x.size:
        x, y = rows(x).reshape(-1), rows(out).reshape(-1)
        other = x if residual is None else rows(residual).reshape(-1)
        lines = lines_of(line_length(x.size, scale.size), scale, shift, dtype=x.dtype)
        floor = 0.0 if relu else -np.inf  # below which nothing comes out; a NaN is not <= and stays
        launch(_scale_shift_compiled, x, *lines, other, residual is not None, floor, y, cost=0.15 * x.size)
    return out


def _relu_numba(x):
    y = _result_like(x)
    if x.size < _SMALL:
        return np.maximum(x, x.dtype.type(0), out=y)
    launch(_relu_compiled, _in_order_of(x, y), _in_order_of(y, y), cost=0.25 * x.size)
    return y


def _relu_backward_numba(grad, y):
    grad_x = _result_like(y)
    if y.size < _SMALL:
        np.copyto(grad_x, grad)
        np.copyto(grad_x, 0, where=y <= 0)
    else:
        arrays = (_in_order_of(array, grad_x) for array in (grad, y, grad_x))
        launch(_relu_backward_compiled, *arrays, cost=0.35 * y.size)
    return grad_x


def _scale_shift_numba(x, scale, shift, residual, relu):
    return scale_shift_into(x, scale, shift, residual, relu, channels_last_empty(x.shape, x.dtype))


def _channel_sum_numba(x):
    if not x.size:
        return np.zeros(x.shape[1], x.dtype)
    length = line_length(x.size, x.shape[1])
    each, blocks = block_lines(x.size, length)
    partial = np.empty((blocks, x.shape[1]))
    launch(_channel_sum_compiled, rows(x).reshape(-1), each, length, partial, cost=0.15 * x.size)
    return partial.sum(0).astype(x.dtype)


relu = Kernel(
    "relu",
    "elementwise",
    loops=_relu_loops,
    numpy=_relu_numpy,
    numba=_relu_numba,
    shapes=lambda x: (x.shape,),
)

relu_backward = Kernel(
    "relu_backward",
    "elementwise",
    loops=_relu_backward_loops,
    numpy=_relu_backward_numpy,
    numba=_relu_backward_numba,
    shapes=lambda grad, y: (y.shape,),
)

scale_shift = Kernel(
    "scale_shift",
    "elementwise",
    loops=_scale_shift_loops,
    numpy=_scale_shift_numpy,
    numba=_scale_shift_numba,
    shapes=lambda x, *rest: (x.shape,),
)

channel_sum = Kernel(
    "channel_sum",
    "elementwise",
    loops=_channel_sum_loops,
    numpy=_channel_sum_numpy,
    numba=_channel_sum_numba,
    shapes=lambda x: (x.shape[1:2],),
)
