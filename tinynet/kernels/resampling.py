"""Gradients of averages and resizings: every input pixel gathers its part of the outputs it went into.

Along each axis such an operation is a matrix, y[o, p] = Σ rows[o, h]·columns[p, w]·x[h, w], and the gradient applies
the transposes. Both have one short run of non-zero weights per row, a band. Scattering, output by output, would add
to pixels that another thread may be adding to as well; gathering writes each pixel of the gradient once, in a fixed
order of summands, in one function for average pooling, adaptive pooling, nearest and bilinear resizing.

What is in cache when. One pixel's C sums, 256 bytes to 8 KB, stay in L1 while the outputs of its band are added. Those
outputs are needed again for the next pixel and the next row of pixels: a few rows, 10 to 100 KB, in L2. So the
gradient of y comes from memory once and that of x goes there once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynet.kernels.geometry import Blend, Windows
from tinynet.kernels.launch import jit, launch, prange
from tinynet.kernels.layout import channels_last_empty, pixels


class Bands(NamedTuple):
    """One axis: output o is the sum of weight[o, i]·x[start[o] + i] over start[o] + i < stop[o]."""

    start: np.ndarray
    stop: np.ndarray
    weight: np.ndarray


@jit
def _weighted_sums_compiled(x, row_start, row_stop, row_weight, column_start, column_stop, column_weight, y):
    batch, out_height, out_width, channels = y.shape
    zero = y.dtype.type(0)
    for job in prange(batch * out_height):
        n = job // out_height
        oy = job % out_height
        for ox in range(out_width):
            for c in range(channels):
                y[n, oy, ox, c] = zero
            for row in range(row_start[oy], row_stop[oy]):
                for column in range(column_start[ox], column_stop[ox]):
                    weight = row_weight[oy, row - row_start[oy]] * column_weight[ox, column - column_start[ox]]
                    for c in range(channels):
                        y[n, oy, ox, c] += x[n, row, column, c] * weight


def weighted_sums(x: np.ndarray, rows: Bands, columns: Bands) -> np.ndarray:
    """x (N, C, H, W) resampled along both axes."""
    y = channels_last_empty((*x.shape[:2], len(rows.start), len(columns.start)), x.dtype)
    if y.size:
        taps = rows.weight.shape[1] * columns.weight.shape[1]
        launch(_weighted_sums_compiled, pixels(x), *rows, *columns, pixels(y), cost=y.size * (0.2 + 0.1 * taps))
    return y


def blend_gradient_bands(blend: Blend, size: int) -> Bands:
    """Every input of an interpolation gathers the outputs that blend it: those of its two neighbourhoods."""
    places = np.arange(size)
    start, stop = np.searchsorted(blend.high, places, "left"), np.searchsorted(blend.low, places, "right")
    output = _band(start, stop, len(blend.low))
    here = places[:, None]
    weight = np.where(blend.low[output] == here, 1 - blend.weight[output], 0)
    weight = weight + np.where(blend.high[output] == here, blend.weight[output], 0)
    return Bands(start, stop, weight.astype(blend.weight.dtype))


def index_gradient_bands(index: np.ndarray, size: int, dtype: np.dtype) -> Bands:
    """Every input gathers the outputs that copied it, where output o copied index[o] (never descending)."""
    places = np.arange(size)
    start, stop = np.searchsorted(index, places, "left"), np.searchsorted(index, places, "right")
    return Bands(start, stop, np.ones((size, (stop - start).max(initial=0)), dtype))


def mean_gradient_bands(windows: Windows, size: int, dtype: np.dtype) -> Bands:
    """Every input gathers its share, 1 / divisor, of the windows that cover it."""
    places = np.arange(size)
    start = np.searchsorted(windows.stop, places, "right")
    stop = np.maximum(np.searchsorted(windows.start, places, "right"), start)
    output = _band(start, stop, len(windows.start))
    return Bands(start, stop, (1 / windows.divisor[output]).astype(dtype))


def _band(start: np.ndarray, stop: np.ndarray, limit: int) -> np.ndarray:
    """The outputs start, start + 1, ... of every band, as many as the widest has; those past its stop are not read."""
    return np.minimum(start[:, None] + np.arange((stop - start).max(initial=0)), limit - 1)
