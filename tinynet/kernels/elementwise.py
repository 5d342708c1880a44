"""Elementwise kernels and the sum over channels: ReLU, the fused scale-shift-residual-ReLU, bias gradients."""

from __future__ import annotations

import numpy as np

from tinynet.kernels.launch import jit, launch, prange, readable
from tinynet.kernels.registry import Kernel


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


@jit
def _relu_compiled(x, y):
    for k in prange(x.size):
        value = x[k]
        y[k] = 0 if value <= 0 else value


@jit
def _relu_backward_compiled(grad, y, grad_x):
    for k in prange(y.size):
        grad_x[k] = 0 if y[k] <= 0 else grad[k]


@jit
def _scale_shift_compiled(x, scale, shift, residual, has_residual, relu, y):
    batch, channels, length = x.shape
    for row in prange(batch * channels):
        n = row // channels
        c = row % channels
        factor = scale[c]
        offset = shift[c]
        if has_residual:
            for k in range(length):
                y[n, c, k] = x[n, c, k] * factor + offset + residual[n, c, k]
        else:
            for k in range(length):
                y[n, c, k] = x[n, c, k] * factor + offset
        if relu:
            for k in range(length):
                value = y[n, c, k]
                y[n, c, k] = 0 if value <= 0 else value


@jit
def _channel_sum_compiled(x, total, block):
    batch, channels, length = x.shape
    for job in prange((channels + block - 1) // block):
        for c in range(job * block, min((job + 1) * block, channels)):
            channel = 0.0
            for n in range(batch):
                for k in range(length):
                    channel += x[n, c, k]
            total[c] = channel


# A launch costs 10 us, as much as NumPy needs for this many elements.
_SMALL = 1 << 14


def _relu_numba(x):
    if x.size < _SMALL:
        return _relu_numpy(x)
    y = np.empty(x.shape, x.dtype)
    launch(_relu_compiled, readable(x).reshape(-1), y.reshape(-1), cost=0.3 * x.size)
    return y


def _relu_backward_numba(grad, y):
    if y.size < _SMALL:
        return _relu_backward_numpy(grad, y)
    grad_x = np.empty(y.shape, grad.dtype)
    flat = readable(grad).reshape(-1), readable(y).reshape(-1), grad_x.reshape(-1)
    launch(_relu_backward_compiled, *flat, cost=0.4 * y.size)
    return grad_x


def _scale_shift_numba(x, scale, shift, residual, relu):
    y = np.empty(x.shape, x.dtype)
    if x.size:
        x = readable(x)
        other = x if residual is None else readable(residual)
        scale, shift = readable(scale), readable(shift)
        launch(_scale_shift_compiled, x, scale, shift, other, residual is not None, relu, y, cost=0.4 * x.size)
    return y


def channel_block(length: int) -> int:
    """How many neighbouring channels one job takes, so that short rows do not share cache lines."""
    return 1 if length >= 16 else 16


def _channel_sum_numba(x):
    total = np.zeros(x.shape[1], x.dtype)
    if x.size:
        rows = readable(x).reshape(*x.shape[:2], -1)
        launch(_channel_sum_compiled, rows, total, channel_block(rows.shape[2]), cost=0.2 * x.size)
    return total


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
