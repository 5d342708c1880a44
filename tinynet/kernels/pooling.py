"""Max pooling, average pooling and adaptive average pooling, as torch.nn.functional defines them.

What is in cache when. Channels lie last in memory, so a window is kernel² runs of C numbers, and an output pixel is
one: its run of maxima (or of sums, in float64) stays in L1, 256 bytes to 16 KB, while the window's runs pass by,
each compared in whole vectors. A row of outputs reads `kernel` rows of x; with a stride below the kernel the next
row of outputs reads some of them again, a few rows of 30 to 100 KB, which L2 still has. From memory, x comes once.

Backward needs to know where each maximum was. A flat index takes 8 bytes for every 4 bytes of output; the number of
the tap inside the window takes 1, so that is what training keeps. Its gradient is gathered: each pixel of x looks
at the few windows that cover it (1 to 4 for 3x3 with stride 2) and takes their gradient where the tap names it, in
whole vectors. So grad_x is written once, and no two threads write to one place.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.geometry import (
    Windows,
    adaptive_windows,
    average_windows,
    pooling_output_size,
)
from tinynet.kernels.launch import jit, launch, prange
from tinynet.kernels.layout import channels_last_empty, pixels
from tinynet.kernels.registry import Kernel, runs_compiled
from tinynet.kernels.resampling import mean_gradient_bands, weighted_sums

# --- max pooling: the definition ---------------------------------------------------------------------------


def _first_inside(start: int, dilation: int) -> int:
    """The first position start, start + dilation, ... that is not left of the input."""
    return start if start >= 0 else start + -(start // dilation) * dilation


def _max_pool_loops(x, kernel, stride, padding, dilation, ceil_mode):
    height, width = x.shape[2:]
    output = pooling_output_size((height, width), kernel, stride, padding, dilation, ceil_mode)
    y = np.full((*x.shape[:2], *output), -np.inf, x.dtype)
    indices = np.empty(y.shape, np.int64)
    for n, c, oy, ox in np.ndindex(y.shape):
        top, left = oy * stride[0] - padding[0], ox * stride[1] - padding[1]
        first = _first_inside(top, dilation[0]) * width + _first_inside(left, dilation[1])
        indices[n, c, oy, ox] = first
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                row, column = top + i * dilation[0], left + j * dilation[1]
                if 0 <= row < height and 0 <= column < width:
                    value = x[n, c, row, column]
                    if value > y[n, c, oy, ox] or np.isnan(value):
                        y[n, c, oy, ox] = value
                        indices[n, c, oy, ox] = row * width + column
    return y, indices


def _max_pool_backward_loops(grad, indices, input_shape):
    grad_x = np.zeros(input_shape, grad.dtype)
    places = input_shape[2] * input_shape[3]
    flat = grad_x.reshape(*input_shape[:2], places)
    for n, c, oy, ox in np.ndindex(grad.shape):
        index = indices[n, c, oy, ox]
        if 0 <= index < places:
            flat[n, c, index] += grad[n, c, oy, ox]
    return grad_x


# --- max pooling: NumPy ------------------------------------------------------------------------------------


def _tap(start: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which positions of one tap lie inside, and the positions with the others moved inside."""
    return (start >= 0) & (start < size), np.clip(start, 0, max(size - 1, 0))


def _first_indices(size, output, stride, padding, dilation):
    """Where the first tap inside the input lies, for every output position along one axis."""
    start = np.arange(output, dtype=np.int64) * stride - padding
    return np.where(start < 0, start + -(start // dilation) * dilation, start)


def _max_pool_numpy(x, kernel, stride, padding, dilation, ceil_mode):
    """Largest value of every window of x (N, C, H, W) and its flat index in H·W (int64).

    Padding counts as -inf, the first of equal values in row-major order wins, NaN wins over all.
    """
    height, width = x.shape[2:]
    output = pooling_output_size((height, width), kernel, stride, padding, dilation, ceil_mode)
    y = np.full((*x.shape[:2], *output), -np.inf, x.dtype)
    first_row = _first_indices(height, output[0], stride[0], padding[0], dilation[0])
    first_column = _first_indices(width, output[1], stride[1], padding[1], dilation[1])
    indices = np.empty(y.shape, np.int64)
    indices[:] = first_row[:, None] * width + first_column
    for i in range(kernel[0]):
        start = np.arange(output[0]) * stride[0] - padding[0] + i * dilation[0]
        row_inside, rows = _tap(start, height)
        for j in range(kernel[1]):
            start = np.arange(output[1]) * stride[1] - padding[1] + j * dilation[1]
            column_inside, columns = _tap(start, width)
            values = x[:, :, rows[:, None], columns]
            better = (values > y) | np.isnan(values)
            better &= row_inside[:, None] & column_inside
            np.copyto(y, values, where=better)
            np.copyto(indices, rows[:, None] * width + columns, where=better)
    return y, indices


def _max_pool_backward_numpy(grad, indices, input_shape):
    """Each output's gradient added at its maximum; indices outside of the input get nothing."""
    planes, places = input_shape[0] * input_shape[1], input_shape[2] * input_shape[3]
    inside = (indices >= 0) & (indices < places)
    flat = indices + np.arange(planes).reshape(*input_shape[:2], 1, 1) * places
    grad_x = np.zeros(planes * places, grad.dtype)
    np.add.at(grad_x, flat[inside], grad[inside])
    return grad_x.reshape(input_shape)


# --- max pooling: Numba ------------------------------------------------------------------------------------

_MOST_TAPS = 256  # that a byte can tell apart


@jit
def _max_pool_compiled(x, y, found, flat, kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                       dilation_y, dilation_x):  # fmt: skip
    """Values, and in `found` where they were: flat in H·W, or as the number of the window's tap."""
    _, height, width, channels = x.shape
    batch, out_height, out_width, _ = y.shape
    across = dilation_x if flat else 1
    down = dilation_y * width if flat else kernel_width
    for job in prange(batch * out_height):
        n = job // out_height
        oy = job % out_height
        top = oy * stride_y - pad_y
        first_row = 0 if top >= 0 else (-top + dilation_y - 1) // dilation_y
        for ox in range(out_width):
            left = ox * stride_x - pad_x
            first_column = 0 if left >= 0 else (-left + dilation_x - 1) // dilation_x
            origin = top * width + left if flat else 0
            stop_row = min(kernel_height, (height - 1 - top) // dilation_y + 1)
            stop_column = min(kernel_width, (width - 1 - left) // dilation_x + 1)
            mark = found.dtype.type(origin + first_row * down + first_column * across)
            for c in range(channels):
                y[n, oy, ox, c] = -np.inf
                found[n, oy, ox, c] = mark
            for i in range(first_row, stop_row):
                row = top + i * dilation_y
                for j in range(first_column, stop_column):
                    column = left + j * dilation_x
                    mark = found.dtype.type(origin + i * down + j * across)
                    for c in range(channels):
                        value = x[n, row, column, c]
                        best = y[n, oy, ox, c]
                        better = (value > best) | (value != value)
                        y[n, oy, ox, c] = value if better else best
                        found[n, oy, ox, c] = mark if better else found[n, oy, ox, c]


@jit
def _max_values_compiled(x, y, kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x):
    _, height, width, channels = x.shape
    batch, out_height, out_width, _ = y.shape
    for job in prange(batch * out_height):
        n = job // out_height
        oy = job % out_height
        top = oy * stride_y - pad_y
        first_row = 0 if top >= 0 else (-top + dilation_y - 1) // dilation_y
        for ox in range(out_width):
            left = ox * stride_x - pad_x
            first_column = 0 if left >= 0 else (-left + dilation_x - 1) // dilation_x
            for c in range(channels):
                y[n, oy, ox, c] = -np.inf
            for i in range(first_row, min(kernel_height, (height - 1 - top) // dilation_y + 1)):
                row = top + i * dilation_y
                for j in range(first_column, min(kernel_width, (width - 1 - left) // dilation_x + 1)):
                    column = left + j * dilation_x
                    for c in range(channels):
                        value = x[n, row, column, c]
                        best = y[n, oy, ox, c]
                        y[n, oy, ox, c] = value if (value > best) | (value != value) else best


@jit
def _max_pool_backward_compiled(grad, indices, grad_x, block):
    batch, outputs, channels = grad.shape
    places = grad_x.shape[1]
    jobs = (channels + block - 1) // block
    for job in prange(batch * jobs):
        n = job // jobs
        first = job % jobs * block
        for k in range(outputs):
            for c in range(first, min(first + block, channels)):
                index = indices[n, k, c]
                if 0 <= index < places:
                    grad_x[n, index, c] += grad[n, k, c]


@jit
def _taps_backward_compiled(grad, taps, row_start, row_stop, row_tap, column_start, column_stop, column_tap,
                            kernel_width, grad_x):  # fmt: skip
    batch, height, width, channels = grad_x.shape
    zero = grad.dtype.type(0)
    for job in prange(batch * height):
        n = job // height
        row = job % height
        for column in range(width):
            for c in range(channels):
                grad_x[n, row, column, c] = zero
            for oy in range(row_start[row], row_stop[row]):
                for ox in range(column_start[column], column_stop[column]):
                    i = row_tap[row, oy - row_start[row]]
                    j = column_tap[column, ox - column_start[column]]
                    if i < 0 or j < 0:
                        continue
                    tap = taps.dtype.type(i * kernel_width + j)
                    for c in range(channels):
                        share = grad[n, oy, ox, c] if taps[n, oy, ox, c] == tap else zero
                        grad_x[n, row, column, c] += share


def _covering(size, output, kernel, stride, padding, dilation):
    """For every place of one axis the outputs [start, stop) whose windows reach over it, and which of their taps
    lies on it (-1: none, it lies between two)."""
    places = np.arange(size) + padding
    start = np.maximum(-((dilation * (kernel - 1) - places) // stride), 0)
    stop = np.maximum(np.minimum(places // stride + 1, output), start)
    distance = places[:, None] - (start[:, None] + np.arange((stop - start).max(initial=0))) * stride
    return start, stop, np.where(distance % dilation == 0, distance // dilation, -1)


def _max_pool_found(x, kernel, stride, padding, dilation, ceil_mode, dtype):
    """Values of max_pool and, by `dtype`, the maxima's flat indices (int64) or tap numbers (uint8)."""
    shape = _pool_shape(x, kernel, stride, padding, dilation, ceil_mode)
    y, found = channels_last_empty(shape, x.dtype), channels_last_empty(shape, dtype)
    if y.size:
        arrays = pixels(x), pixels(y), pixels(found)
        window = (*kernel, *stride, *padding, *dilation)
        cost = 0.1 * y.size * kernel[0] * kernel[1]
        launch(_max_pool_compiled, *arrays, dtype is np.int64, *window, cost=cost)
    return y, found


def _max_pool_numba(x, kernel, stride, padding, dilation, ceil_mode):
    return _max_pool_found(x, kernel, stride, padding, dilation, ceil_mode, np.int64)


def _max_pool_backward_numba(grad, indices, input_shape):
    batch, channels = input_shape[:2]
    grad_x = channels_last_empty(input_shape, grad.dtype)
    grad_x[...] = 0
    if grad.size and grad_x.size:
        arrays = (pixels(array).reshape(batch, -1, channels) for array in (grad, indices, grad_x))
        # a thread takes whole images; few images are split by channels, in whole cache lines
        block = channels if batch >= 8 else -(-channels * batch // 8 // 16) * 16
        launch(_max_pool_backward_compiled, *arrays, block, cost=grad.size)
    return grad_x


def max_pool_for_training(x, kernel, stride, padding, dilation, ceil_mode) -> tuple[np.ndarray, np.ndarray]:
    """Values of `max_pool`, and where they were in the form that takes least room here.

    That is the number of the window's tap (uint8, row-major), or what `max_pool` gives, flat indices, where
    other code than Numba's runs or the window has more than 256 taps.
    """
    if kernel[0] * kernel[1] <= _MOST_TAPS and runs_compiled("max_pool", "max_pool_backward"):
        return _max_pool_found(x, kernel, stride, padding, dilation, ceil_mode, np.uint8)
    return max_pool(x, kernel, stride, padding, dilation, ceil_mode)


def max_pool_training_backward(grad, found, input_shape, kernel, stride, padding, dilation) -> np.ndarray:
    """Gradient of x from what `max_pool_for_training` found, whichever form that has."""
    if found.dtype != np.uint8:
        return max_pool_backward(grad, found, input_shape)
    grad_x = channels_last_empty(input_shape, grad.dtype)
    if grad_x.size:
        axes = zip(input_shape[2:], grad.shape[2:], kernel, stride, padding, dilation)
        rows, columns = (_covering(*axis) for axis in axes)
        arrays = pixels(grad), pixels(found), *rows, *columns, kernel[1], pixels(grad_x)
        launch(_taps_backward_compiled, *arrays, cost=0.5 * grad_x.size)
    return grad_x


def max_pool_into(x, kernel, stride, padding, dilation, ceil_mode, out) -> np.ndarray:
    """The values of `max_pool` of x (N, C, H, W) written to `out`, which is channels last."""
    if not runs_compiled("max_pool"):
        out[...] = max_pool(x, kernel, stride, padding, dilation, ceil_mode)[0]
    elif out.size:
        window = (*kernel, *stride, *padding, *dilation)
        launch(_max_values_compiled, pixels(x), pixels(out), *window, cost=0.15 * out.size * kernel[0] * kernel[1])
    return out


# --- averages over windows: average pooling and adaptive average pooling -----------------------------------


def _average_axes(size, kernel, stride, padding, ceil_mode, count_include_pad):
    """The windows of average pooling along both axes."""
    rows, columns = (
        average_windows(*axis, ceil_mode, count_include_pad) for axis in zip(size, kernel, stride, padding)
    )
    return rows, columns


def _adaptive_axes(size, output_size):
    rows, columns = (adaptive_windows(*axis) for axis in zip(size, output_size))
    return rows, columns


def _window_means_loops(x, rows: Windows, columns: Windows, divisor):
    y = np.zeros((*x.shape[:2], len(rows.start), len(columns.start)), x.dtype)
    for n, c, oy, ox in np.ndindex(y.shape):
        total = 0.0
        for row in range(rows.start[oy], rows.stop[oy]):
            for column in range(columns.start[ox], columns.stop[ox]):
                total += float(x[n, c, row, column])
        y[n, c, oy, ox] = total / (divisor or rows.divisor[oy] * columns.divisor[ox])
    return y


def _window_means_backward_loops(grad, input_shape, rows: Windows, columns: Windows, divisor):
    grad_x = np.zeros(input_shape, grad.dtype)
    for n, c, oy, ox in np.ndindex(grad.shape):
        share = grad[n, c, oy, ox] / grad.dtype.type(divisor or rows.divisor[oy] * columns.divisor[ox])
        for row in range(rows.start[oy], rows.stop[oy]):
            for column in range(columns.start[ox], columns.stop[ox]):
                grad_x[n, c, row, column] += share
    return grad_x


def _divisors(rows: Windows, columns: Windows, divisor) -> np.ndarray:
    if divisor:
        return np.full((len(rows.start), len(columns.start)), float(divisor))
    return np.outer(rows.divisor, columns.divisor).astype(np.float64)


def _window_means_numpy(x, rows: Windows, columns: Windows, divisor):
    """Sums over windows are separable: first over rows, then over columns."""
    over_rows = np.empty((*x.shape[:2], len(rows.start), x.shape[3]), np.float64)
    for o, (start, stop) in enumerate(zip(rows.start, rows.stop)):
        x[:, :, start:stop].sum(2, dtype=np.float64, out=over_rows[:, :, o])
    totals = np.empty((*over_rows.shape[:3], len(columns.start)), np.float64)
    for o, (start, stop) in enumerate(zip(columns.start, columns.stop)):
        over_rows[..., start:stop].sum(3, out=totals[..., o])
    return (totals / _divisors(rows, columns, divisor)).astype(x.dtype)


def _window_means_backward_numpy(grad, input_shape, rows: Windows, columns: Windows, divisor):
    shares = grad / _divisors(rows, columns, divisor)
    over_columns = np.zeros((*grad.shape[:3], input_shape[3]), np.float64)
    for o, (start, stop) in enumerate(zip(columns.start, columns.stop)):
        over_columns[..., start:stop] += shares[..., o, None]
    grad_x = np.zeros(input_shape, np.float64)
    for o, (start, stop) in enumerate(zip(rows.start, rows.stop)):
        grad_x[:, :, start:stop] += over_columns[:, :, o, None]
    return grad_x.astype(grad.dtype)


@jit
def _means_compiled(
    x, y, totals, row_start, row_stop, row_divisor, column_start, column_stop, column_divisor, divisor
):  # fmt: skip
    batch, out_height, out_width, channels = y.shape
    for job in prange(batch * out_height):
        n = job // out_height
        oy = job % out_height
        for ox in range(out_width):
            for c in range(channels):
                totals[job, c] = 0
            for row in range(row_start[oy], row_stop[oy]):
                for column in range(column_start[ox], column_stop[ox]):
                    for c in range(channels):
                        totals[job, c] += x[n, row, column, c]
            parts = divisor if divisor != 0 else np.float64(row_divisor[oy] * column_divisor[ox])
            for c in range(channels):
                y[n, oy, ox, c] = totals[job, c] / parts


def _window_means_into(x, y, divisor, rows: Windows, columns: Windows):
    if y.size:
        totals = np.empty((y.shape[0] * y.shape[2], y.shape[1]))  # a run of sums per row of outputs
        cost = 0.1 * x.size + 0.2 * y.size
        launch(_means_compiled, pixels(x), pixels(y), totals, *rows, *columns, float(divisor or 0), cost=cost)
    return y


def _window_means_numba(x, rows: Windows, columns: Windows, divisor):
    y = channels_last_empty((*x.shape[:2], len(rows.start), len(columns.start)), x.dtype)
    return _window_means_into(x, y, divisor, rows, columns)


def _window_means_backward_numba(grad, input_shape, rows: Windows, columns: Windows, divisor):
    if divisor:
        rows = rows._replace(divisor=np.full_like(rows.divisor, divisor))
        columns = columns._replace(divisor=np.ones_like(columns.divisor))
    bands = (mean_gradient_bands(*axis, grad.dtype) for axis in zip((rows, columns), input_shape[2:]))
    return weighted_sums(grad, *bands)


def average_pool_into(
    x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override, out
) -> np.ndarray:  # fmt: skip
    """`average_pool` of x (N, C, H, W) written to `out`, which is channels last."""
    settings = (kernel, stride, padding, ceil_mode, count_include_pad)
    if runs_compiled("average_pool"):
        return _window_means_into(x, out, divisor_override, *_average_axes(x.shape[2:], *settings))
    out[...] = average_pool(x, *settings, divisor_override)
    return out


def adaptive_average_pool_into(x, out) -> np.ndarray:
    """`adaptive_average_pool` of x (N, C, H, W) written to `out`, which is channels last and gives the size."""
    if runs_compiled("adaptive_average_pool"):
        return _window_means_into(x, out, None, *_adaptive_axes(x.shape[2:], out.shape[2:]))
    out[...] = adaptive_average_pool(x, out.shape[2:])
    return out


def _average_pool_from(means):
    """average_pool in terms of an implementation of the means over windows."""

    def average_pool(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override):
        """Mean of every window of x (N, C, H, W); divisors as torch.nn.AvgPool2d."""
        axes = _average_axes(x.shape[2:], kernel, stride, padding, ceil_mode, count_include_pad)
        return means(x, *axes, divisor_override)

    return average_pool


def _average_pool_backward_from(backward):
    """average_pool_backward in terms of an implementation of the means' gradient."""

    def average_pool_backward(
        grad, input_shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
    ):
        """Each output's gradient spread evenly over its window."""
        axes = _average_axes(input_shape[2:], kernel, stride, padding, ceil_mode, count_include_pad)
        return backward(grad, input_shape, *axes, divisor_override)

    return average_pool_backward


def _adaptive_average_pool_from(means):
    def adaptive_average_pool(x, output_size):
        """Means of x (N, C, H, W) over output_size windows that cover it evenly."""
        return means(x, *_adaptive_axes(x.shape[2:], output_size), None)

    return adaptive_average_pool


def _adaptive_average_pool_backward_from(backward):
    def adaptive_average_pool_backward(grad, input_shape):
        """Each output's gradient spread evenly over its window."""
        return backward(grad, input_shape, *_adaptive_axes(input_shape[2:], grad.shape[2:]), None)

    return adaptive_average_pool_backward


def _pool_shape(x, kernel, stride, padding, dilation, ceil_mode):
    return *x.shape[:2], *pooling_output_size(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)


max_pool = Kernel(
    "max_pool",
    "pooling",
    loops=_max_pool_loops,
    numpy=_max_pool_numpy,
    numba=_max_pool_numba,
    shapes=lambda *args: (_pool_shape(*args),) * 2,
    integer_results=(1,),
)

max_pool_backward = Kernel(
    "max_pool_backward",
    "pooling",
    loops=_max_pool_backward_loops,
    numpy=_max_pool_backward_numpy,
    numba=_max_pool_backward_numba,
    shapes=lambda grad, indices, input_shape: (tuple(input_shape),),
)

average_pool = Kernel(
    "average_pool",
    "pooling",
    loops=_average_pool_from(_window_means_loops),
    numpy=_average_pool_from(_window_means_numpy),
    numba=_average_pool_from(_window_means_numba),
    shapes=lambda x, kernel, stride, padding, ceil_mode, *rest: (
        _pool_shape(x, kernel, stride, padding, (1, 1), ceil_mode),
    ),
)

average_pool_backward = Kernel(
    "average_pool_backward",
    "pooling",
    loops=_average_pool_backward_from(_window_means_backward_loops),
    numpy=_average_pool_backward_from(_window_means_backward_numpy),
    numba=_average_pool_backward_from(_window_means_backward_numba),
    shapes=lambda grad, input_shape, *rest: (tuple(input_shape),),
)

adaptive_average_pool = Kernel(
    "adaptive_average_pool",
    "pooling",
    loops=_adaptive_average_pool_from(_window_means_loops),
    numpy=_adaptive_average_pool_from(_window_means_numpy),
    numba=_adaptive_average_pool_from(_window_means_numba),
    shapes=lambda x, output_size: ((*x.shape[:2], *output_size),),
)

adaptive_average_pool_backward = Kernel(
    "adaptive_average_pool_backward",
    "pooling",
    loops=_adaptive_average_pool_backward_from(_window_means_backward_loops),
    numpy=_adaptive_average_pool_backward_from(_window_means_backward_numpy),
    numba=_adaptive_average_pool_backward_from(_window_means_backward_numba),
    shapes=lambda grad, input_shape: (tuple(input_shape),),
)
