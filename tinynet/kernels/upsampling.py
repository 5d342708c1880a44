"""Resizing by nearest neighbour and by bilinear interpolation (torch.nn.functional.interpolate).

Both are separable: `geometry` gives, for each axis, where every output position reads; the kernels gather,
and their gradients add back along the same tables.

What is in cache when. Channels lie last in memory, so one output pixel is one run of C numbers: nearest copies a
run, bilinear mixes four. A run is 256 bytes (64 channels) to 8 KB and lives in L1 while it is made. One row of
outputs reads one row of x (nearest) or two (bilinear), and the next row of outputs mostly the same ones, which at
some 10 to 100 KB a row are still in L2. From memory x comes once and y goes there once; with twice the height and
width y is four times x, so the time is that of writing y. How gradients are gathered: resampling.py.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.geometry import Blend, bilinear_sources, nearest_indices
from tinynet.kernels.launch import jit, launch, prange
from tinynet.kernels.layout import channels_last_empty, pixels
from tinynet.kernels.registry import Kernel, runs_compiled
from tinynet.kernels.resampling import blend_gradient_bands, index_gradient_bands, weighted_sums


def _nearest_axes(size, output_size, scale, exact):
    scales = scale or (None, None)
    rows, columns = (nearest_indices(size[k], output_size[k], scales[k], exact) for k in (0, 1))
    return rows, columns


def _bilinear_axes(size, output_size, align_corners, scale, dtype):
    scales = scale or (None, None)
    rows, columns = (bilinear_sources(size[k], output_size[k], align_corners, scales[k], dtype) for k in (0, 1))
    return rows, columns


# --- the definition ----------------------------------------------------------------------------------------


def _gather_loops(x, rows, columns):
    y = np.empty((*x.shape[:2], len(rows), len(columns)), x.dtype)
    for n, c, oy, ox in np.ndindex(y.shape):
        y[n, c, oy, ox] = x[n, c, rows[oy], columns[ox]]
    return y


def _scatter_loops(grad, input_shape, rows, columns):
    grad_x = np.zeros(input_shape, grad.dtype)
    for n, c, oy, ox in np.ndindex(grad.shape):
        grad_x[n, c, rows[oy], columns[ox]] += grad[n, c, oy, ox]
    return grad_x


def _corners(rows: Blend, columns: Blend, oy: int, ox: int):
    """The four source pixels of one output pixel with their weights."""
    for row, row_weight in ((rows.low[oy], 1 - rows.weight[oy]), (rows.high[oy], rows.weight[oy])):
        for column, weight in (
            (columns.low[ox], 1 - columns.weight[ox]),
            (columns.high[ox], columns.weight[ox]),
        ):
            yield row, column, row_weight * weight


def _blend_loops(x, rows: Blend, columns: Blend):
    y = np.zeros((*x.shape[:2], len(rows.low), len(columns.low)), x.dtype)
    for n, c, oy, ox in np.ndindex(y.shape):
        for row, column, weight in _corners(rows, columns, oy, ox):
            y[n, c, oy, ox] += x[n, c, row, column] * weight
    return y


def _blend_backward_loops(grad, input_shape, rows: Blend, columns: Blend):
    grad_x = np.zeros(input_shape, grad.dtype)
    for n, c, oy, ox in np.ndindex(grad.shape):
        for row, column, weight in _corners(rows, columns, oy, ox):
            grad_x[n, c, row, column] += grad[n, c, oy, ox] * weight
    return grad_x


# --- NumPy -------------------------------------------------------------------------------------------------


def _gather_numpy(x, rows, columns):
    return np.ascontiguousarray(x[:, :, rows[:, None], columns])


def _add_columns(over_columns: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """over_columns[..., index] += values, adding up where an index occurs more than once."""
    np.add.at(np.moveaxis(over_columns, 3, 0), index, np.moveaxis(values, 3, 0))


def _add_rows(over_rows: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """over_rows[:, :, index] += values, adding up where an index occurs more than once."""
    np.add.at(np.moveaxis(over_rows, 2, 0), index, np.moveaxis(values, 2, 0))


def _scatter_numpy(grad, input_shape, rows, columns):
    over_columns = np.zeros((*grad.shape[:3], input_shape[3]), grad.dtype)
    _add_columns(over_columns, columns, grad)
    grad_x = np.zeros(input_shape, grad.dtype)
    _add_rows(grad_x, rows, over_columns)
    return grad_x


def _blend_numpy(x, rows: Blend, columns: Blend):
    low, high = x[..., columns.low], x[..., columns.high]
    x = low * (1 - columns.weight) + high * columns.weight
    weight = rows.weight[:, None]
    return np.ascontiguousarray(x[:, :, rows.low] * (1 - weight) + x[:, :, rows.high] * weight)


def _blend_backward_numpy(grad, input_shape, rows: Blend, columns: Blend):
    over_columns = np.zeros((*grad.shape[:3], input_shape[3]), grad.dtype)
    _add_columns(over_columns, columns.low, grad * (1 - columns.weight))
    _add_columns(over_columns, columns.high, grad * columns.weight)
    grad_x = np.zeros(input_shape, grad.dtype)
    weight = rows.weight[:, None]
    _add_rows(grad_x, rows.low, over_columns * (1 - weight))
    _add_rows(grad_x, rows.high, over_columns * weight)
    return grad_x


# --- Numba -------------------------------------------------------------------------------------------------


@jit
def _gather_compiled(x, rows, columns, y):
    batch, out_height, out_width, channels = y.shape
    for job in prange(batch * out_height):
        n = job // out_height
        oy = job % out_height
        row = rows[oy]
        for ox in range(out_width):
            column = columns[ox]
            for c in range(channels):
                y[n, oy, ox, c] = x[n, row, column, c]


@jit
def _blend_compiled(x, row_low, row_high, row_weight, column_low, column_high, column_weight, y):
    batch, out_height, out_width, channels = y.shape
    for job in prange(batch * out_height):
        n = job // out_height
        oy = job % out_height
        above = row_low[oy]
        below = row_high[oy]
        for ox in range(out_width):
            left = column_low[ox]
            right = column_high[ox]
            a = row_weight[0, oy] * column_weight[0, ox]
            b = row_weight[0, oy] * column_weight[1, ox]
            c = row_weight[1, oy] * column_weight[0, ox]
            d = row_weight[1, oy] * column_weight[1, ox]
            for k in range(channels):
                top = x[n, above, left, k] * a + x[n, above, right, k] * b
                y[n, oy, ox, k] = top + (x[n, below, left, k] * c + x[n, below, right, k] * d)


def _gather_into(x, y, rows, columns):
    if y.size:
        launch(_gather_compiled, pixels(x), rows, columns, pixels(y), cost=0.3 * y.size)


def _gather_numba(x, rows, columns):
    y = channels_last_empty((*x.shape[:2], len(rows), len(columns)), x.dtype)
    _gather_into(x, y, rows, columns)
    return y


def _scatter_numba(grad, input_shape, rows, columns):
    bands = (index_gradient_bands(*axis, grad.dtype) for axis in zip((rows, columns), input_shape[2:]))
    return weighted_sums(grad, *bands)


def _tables(blend: Blend) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both indices of an axis, and both weights as (2, outputs)."""
    return blend.low, blend.high, np.stack([1 - blend.weight, blend.weight])


def _blend_into(x, y, rows: Blend, columns: Blend):
    if y.size:
        launch(_blend_compiled, pixels(x), *_tables(rows), *_tables(columns), pixels(y), cost=0.3 * y.size)


def _blend_numba(x, rows: Blend, columns: Blend):
    y = channels_last_empty((*x.shape[:2], len(rows.low), len(columns.low)), x.dtype)
    _blend_into(x, y, rows, columns)
    return y


def _blend_backward_numba(grad, input_shape, rows: Blend, columns: Blend):
    return weighted_sums(grad, *map(blend_gradient_bands, (rows, columns), input_shape[2:]))


def nearest_into(x, scale, exact, out) -> np.ndarray:
    """`nearest` of x (N, C, H, W) written to `out`, which is channels last and gives the size."""
    if runs_compiled("nearest"):
        _gather_into(x, out, *_nearest_axes(x.shape[2:], out.shape[2:], scale, exact))
    else:
        out[...] = nearest(x, out.shape[2:], scale, exact)
    return out


def bilinear_into(x, align_corners, scale, out) -> np.ndarray:
    """`bilinear` of x (N, C, H, W) written to `out`, which is channels last and gives the size."""
    if runs_compiled("bilinear"):
        _blend_into(x, out, *_bilinear_axes(x.shape[2:], out.shape[2:], align_corners, scale, x.dtype))
    else:
        out[...] = bilinear(x, out.shape[2:], align_corners, scale)
    return out


# --- kernels -----------------------------------------------------------------------------------------------


def _nearest_from(gather):
    def nearest(x, output_size, scale, exact):
        """x (N, C, H, W) resized to output_size; scale (sh, sw) where torch would use it, else None."""
        return gather(x, *_nearest_axes(x.shape[2:], output_size, scale, exact))

    return nearest


def _nearest_backward_from(scatter):
    def nearest_backward(grad, input_shape, scale, exact):
        """Each output's gradient added at the input pixel that it copied."""
        return scatter(grad, input_shape, *_nearest_axes(input_shape[2:], grad.shape[2:], scale, exact))

    return nearest_backward


def _bilinear_from(blend):
    def bilinear(x, output_size, align_corners, scale):
        """x (N, C, H, W) resized to output_size; scale (sh, sw) where torch would use it, else None."""
        return blend(x, *_bilinear_axes(x.shape[2:], output_size, align_corners, scale, x.dtype))

    return bilinear


def _bilinear_backward_from(blend_backward):
    def bilinear_backward(grad, input_shape, align_corners, scale):
        """Each output's gradient added at its four source pixels by their weights."""
        axes = _bilinear_axes(input_shape[2:], grad.shape[2:], align_corners, scale, grad.dtype)
        return blend_backward(grad, input_shape, *axes)

    return bilinear_backward


nearest = Kernel(
    "nearest",
    "upsampling",
    loops=_nearest_from(_gather_loops),
    numpy=_nearest_from(_gather_numpy),
    numba=_nearest_from(_gather_numba),
    shapes=lambda x, output_size, *rest: ((*x.shape[:2], *output_size),),
)

nearest_backward = Kernel(
    "nearest_backward",
    "upsampling",
    loops=_nearest_backward_from(_scatter_loops),
    numpy=_nearest_backward_from(_scatter_numpy),
    numba=_nearest_backward_from(_scatter_numba),
    shapes=lambda grad, input_shape, *rest: (tuple(input_shape),),
)

bilinear = Kernel(
    "bilinear",
    "upsampling",
    loops=_bilinear_from(_blend_loops),
    numpy=_bilinear_from(_blend_numpy),
    numba=_bilinear_from(_blend_numba),
    shapes=lambda x, output_size, *rest: ((*x.shape[:2], *output_size),),
)

bilinear_backward = Kernel(
    "bilinear_backward",
    "upsampling",
    loops=_bilinear_backward_from(_blend_backward_loops),
    numpy=_bilinear_backward_from(_blend_backward_numpy),
    numba=_bilinear_backward_from(_blend_backward_numba),
    shapes=lambda grad, input_shape, *rest: (tuple(input_shape),),
)
