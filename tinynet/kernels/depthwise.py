"""Depthwise convolution: every channel has a kernel of its own, so there is no product of matrices in it.

A pixel's channels are multiplied lane by lane with one tap's weights. What stays in L1: the weights, as
[tap][channel], and the output pixel that gathers one tap after the other; the input rows under it come from L2,
each read once per tap. There is one multiplication per number read, so memory decides, not the multipliers.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.geometry import Sizes
from tinynet.kernels.indirect import Walk, forward_walk, gradient_walks
from tinynet.kernels.launch import inner, jit, launch, prange
from tinynet.kernels.layout import channels_last_empty, pixels

_PARTS = 16  # runs of rows whose weight gradients are summed apart


@inner
def _add_taps(x, n, y, across, where, rows, columns, weight, target):
    """target[c] += the sum over taps of x[pixel below the tap, c]·weight[tap, c]."""
    for t in range(len(rows)):
        at_y = y * where[0] + rows[t]
        at_x = across * where[1] + columns[t]
        if at_y >= 0 and at_y < x.shape[1] and at_x >= 0 and at_x < x.shape[2]:
            source = x[n, at_y, at_x]
            for c in range(len(target)):
                target[c] += source[c] * weight[t, c]


@jit
def _walk_compiled(x, where, rows, columns, weight, bias, result):
    height, width = where[2], where[3]
    for line in prange(x.shape[0] * height):
        n, y = line // height, line % height
        for across in range(width):
            target = result[n, y * where[4] + where[6], across * where[5] + where[7]]
            for c in range(len(target)):
                target[c] = bias[c]
            _add_taps(x, n, y, across, where, rows, columns, weight, target)


@jit
def _weight_gradient_compiled(x, grad, where, rows, columns, parts):
    height, width = grad.shape[1], grad.shape[2]
    lines = grad.shape[0] * height
    for part in prange(parts.shape[0]):
        for line in range(lines * part // parts.shape[0], lines * (part + 1) // parts.shape[0]):
            n, y = line // height, line % height
            for t in range(len(rows)):
                at_y = y * where[0] + rows[t]
                if at_y < 0 or at_y >= x.shape[1]:
                    continue
                target = parts[part, t]
                for across in range(width):
                    at_x = across * where[1] + columns[t]
                    if at_x >= 0 and at_x < x.shape[2]:
                        source, factor = x[n, at_y, at_x], grad[n, y, across]
                        for c in range(len(target)):
                            target[c] += source[c] * factor[c]


def _where(walk: Walk) -> np.ndarray:
    return np.array((*walk.step, walk.height, walk.width, *walk.spread, *walk.start), np.int64)


def _gather(x: np.ndarray, walk: Walk, taps: np.ndarray, bias: np.ndarray, result: np.ndarray) -> None:
    cost = 0.2 * len(x) * walk.height * walk.width * taps.size
    launch(_walk_compiled, x, _where(walk), walk.rows, walk.columns, np.ascontiguousarray(taps[walk.taps]), bias,
           result.transpose(0, 2, 3, 1), cost=cost)  # fmt: skip


def _by_tap(weight: np.ndarray) -> np.ndarray:
    """(C, 1, kh, kw) as (taps, C)."""
    return weight.reshape(len(weight), -1).T


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, output: Sizes, stride: Sizes, padding: Sizes,
             dilation: Sizes) -> np.ndarray:  # fmt: skip
    """y (N, C, *output) from x (N, C, H, W) and weight (C, 1, kh, kw)."""
    y = channels_last_empty((*x.shape[:2], *output), x.dtype)
    walk = forward_walk(output, weight.shape[2:], stride, padding, dilation)
    shift = np.zeros(len(weight), x.dtype) if bias is None else np.array(bias)
    _gather(pixels(x), walk, _by_tap(weight), shift, y)
    return y


def input_gradient(grad: np.ndarray, weight: np.ndarray, input_shape: tuple[int, ...], stride: Sizes, padding: Sizes,
                   dilation: Sizes) -> np.ndarray:  # fmt: skip
    """Gradient (N, C, H, W) of the input."""
    grad_x = channels_last_empty(input_shape, grad.dtype)
    size = (input_shape[2], input_shape[3])
    for walk in gradient_walks(size, weight.shape[2:], stride, padding, dilation):
        _gather(pixels(grad), walk, _by_tap(weight), np.zeros(len(weight), grad.dtype), grad_x)
    return grad_x


def weight_gradient(grad: np.ndarray, x: np.ndarray, weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes,
                    dilation: Sizes) -> np.ndarray:  # fmt: skip
    """Gradient (C, 1, kh, kw) of the weight."""
    walk = forward_walk(grad.shape[2:], weight_shape[2:], stride, padding, dilation)
    parts = np.zeros((min(_PARTS, grad.shape[0] * grad.shape[2]), len(walk.taps), x.shape[1]), x.dtype)
    cost = 0.2 * grad.size * len(walk.taps)
    launch(_weight_gradient_compiled, pixels(x), pixels(grad), _where(walk), walk.rows, walk.columns, parts, cost=cost)
    return np.ascontiguousarray(parts.sum(0).T).reshape(weight_shape)
