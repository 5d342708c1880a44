"""Max pooling, average pooling and adaptive average pooling, as torch.nn.functional defines them."""

from __future__ import annotations

import numpy as np

from tinynet.kernels.geometry import (
    Windows,
    adaptive_windows,
    average_windows,
    pooling_output_size,
)
from tinynet.kernels.launch import jit, launch, prange, readable
from tinynet.kernels.registry import Kernel

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
    pixels = input_shape[2] * input_shape[3]
    flat = grad_x.reshape(*input_shape[:2], pixels)
    for n, c, oy, ox in np.ndindex(grad.shape):
        index = indices[n, c, oy, ox]
        if 0 <= index < pixels:
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
    planes, pixels = input_shape[0] * input_shape[1], input_shape[2] * input_shape[3]
    inside = (indices >= 0) & (indices < pixels)
    flat = indices + np.arange(planes).reshape(*input_shape[:2], 1, 1) * pixels
    grad_x = np.zeros(planes * pixels, grad.dtype)
    np.add.at(grad_x, flat[inside], grad[inside])
    return grad_x.reshape(input_shape)


# --- max pooling: Numba ------------------------------------------------------------------------------------

at = np.uint64  # an index known to be at least 0, see im2col.py


@jit
def _max_pool_compiled(x, y, indices, first_row, first_column, kernel_height, kernel_width,
                       stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x):  # fmt: skip
    planes, height, width = x.shape
    out_height, out_width = y.shape[1], y.shape[2]
    for plane in prange(planes):
        for oy in range(out_height):
            for ox in range(out_width):
                y[plane, oy, ox] = -np.inf
                indices[plane, oy, ox] = first_row[oy] * width + first_column[ox]
            for i in range(kernel_height):
                row = oy * stride_y - pad_y + i * dilation_y
                if row < 0 or row >= height:
                    continue
                for j in range(kernel_width):
                    shift = j * dilation_x - pad_x
                    start = 0 if shift >= 0 else (-shift + stride_x - 1) // stride_x
                    stop = 0 if shift >= width else min(out_width, (width - 1 - shift) // stride_x + 1)
                    offset = row * width + shift
                    # the same loop twice: a stride that LLVM can read becomes vector instructions
                    if stride_x == 2:
                        for ox in range(start, stop):
                            value = x[plane, row, at(ox * 2 + shift)]
                            best = y[plane, oy, at(ox)]
                            found = indices[plane, oy, at(ox)]
                            better = (value > best) | (value != value)
                            y[plane, oy, at(ox)] = value if better else best
                            indices[plane, oy, at(ox)] = ox * 2 + offset if better else found
                    else:
                        for ox in range(start, stop):
                            value = x[plane, row, at(ox * stride_x + shift)]
                            best = y[plane, oy, at(ox)]
                            found = indices[plane, oy, at(ox)]
                            better = (value > best) | (value != value)
                            y[plane, oy, at(ox)] = value if better else best
                            indices[plane, oy, at(ox)] = ox * stride_x + offset if better else found


@jit
def _max_pool_backward_compiled(grad, indices, grad_x):
    planes, outputs = grad.shape
    pixels = grad_x.shape[1]
    for plane in prange(planes):
        for k in range(outputs):
            index = indices[plane, k]
            if 0 <= index < pixels:
                grad_x[plane, index] += grad[plane, k]


def _max_pool_numba(x, kernel, stride, padding, dilation, ceil_mode):
    height, width = x.shape[2:]
    output = pooling_output_size((height, width), kernel, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    indices = np.empty(y.shape, np.int64)
    if y.size:
        planes = (readable(x).reshape(-1, height, width), y.reshape(-1, *output), indices.reshape(-1, *output))
        first = (
            _first_indices(height, output[0], stride[0], padding[0], dilation[0]),
            _first_indices(width, output[1], stride[1], padding[1], dilation[1]),
        )
        window = (*kernel, *stride, *padding, *dilation)
        launch(_max_pool_compiled, *planes, *first, *window, cost=0.7 * y.size * kernel[0] * kernel[1])
    return y, indices


def _max_pool_backward_numba(grad, indices, input_shape):
    grad_x = np.zeros(input_shape, grad.dtype)
    if grad.size and grad_x.size:
        planes = input_shape[0] * input_shape[1]
        arrays = (array.reshape(planes, -1) for array in (readable(grad), readable(indices), grad_x))
        launch(_max_pool_backward_compiled, *arrays, cost=grad.size)
    return grad_x


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
def _means_compiled(x, y, row_start, row_stop, row_divisor, column_start, column_stop, column_divisor, divisor):
    planes, out_height, out_width = y.shape
    for plane in prange(planes):
        for oy in range(out_height):
            for ox in range(out_width):
                total = 0.0
                for row in range(row_start[oy], row_stop[oy]):
                    for column in range(column_start[ox], column_stop[ox]):
                        total += x[plane, at(row), at(column)]
                parts = divisor if divisor != 0 else np.float64(row_divisor[oy] * column_divisor[ox])
                y[plane, oy, ox] = total / parts


@jit
def _means_backward_compiled(
    grad, grad_x, row_start, row_stop, row_divisor, column_start, column_stop, column_divisor, divisor, share
):
    planes, out_height, out_width = grad.shape
    for plane in prange(planes):
        for oy in range(out_height):
            for ox in range(out_width):
                parts = divisor if divisor != 0 else np.float64(row_divisor[oy] * column_divisor[ox])
                share[plane] = grad[plane, oy, ox] / parts
                value = share[plane]
                for row in range(row_start[oy], row_stop[oy]):
                    for column in range(column_start[ox], column_stop[ox]):
                        grad_x[plane, at(row), at(column)] += value


def _window_means_numba(x, rows: Windows, columns: Windows, divisor):
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], len(rows.start), len(columns.start)), x.dtype)
    if y.size and x.size:
        planes = readable(x).reshape(-1, height, width), y.reshape(-1, *y.shape[2:])
        launch(_means_compiled, *planes, *rows, *columns, float(divisor or 0), cost=x.size + 2 * y.size)
    return y


def _window_means_backward_numba(grad, input_shape, rows: Windows, columns: Windows, divisor):
    grad_x = np.zeros(input_shape, grad.dtype)
    if grad.size and grad_x.size:
        planes = readable(grad).reshape(-1, *grad.shape[2:]), grad_x.reshape(-1, *input_shape[2:])
        share = np.empty(len(planes[0]), grad.dtype)
        cost = grad_x.size + 2 * grad.size
        launch(_means_backward_compiled, *planes, *rows, *columns, float(divisor or 0), share, cost=cost)
    return grad_x


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
