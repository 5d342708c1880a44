"""Group normalisation on channels-last memory: each group of channels of each image to mean 0 and variance 1.

Wu and He 2018; torch.nn.functional.group_norm. A group's numbers lie scattered there, a few of every pixel, so the
work is batch norm's with one set of statistics per image (the trips through memory and what stays in cache are
told in batch_norm.py): moments per channel in one trip, put together to those of the groups, which is arithmetic
on (N, C) numbers, and the second trip with every channel's own scale and shift, weight and bias included.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.batch_norm import gradient_moments, input_gradient, moments, normalise
from tinynet.kernels.layout import channels_last_empty, pixels


def _sets(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) as one row of pixels per image."""
    return pixels(x).reshape(x.shape[0], -1)


def _spread(values: np.ndarray, channels: int) -> np.ndarray:
    """Values of the groups (N, groups) as values of their channels (N, C)."""
    return np.repeat(values, channels // values.shape[1], axis=1)


def _over_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """Means over the channels of each group: (N, C) to (N, groups)."""
    return values.reshape(len(values), groups, -1).mean(2)


def group_norm(x, weight, bias, groups, eps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, mean and biased variance (N, groups) of x (N, C, ...); weight and bias (C,) or None."""
    channels = x.shape[1]
    y = channels_last_empty(x.shape, x.dtype)
    channel_mean, channel_variance = moments(_sets(x), channels)
    mean = _over_groups(channel_mean, groups)
    variance = _over_groups(channel_variance + (channel_mean - _spread(mean, channels)) ** 2, groups)
    mean, variance = mean.astype(x.dtype), variance.astype(x.dtype)
    scale = _spread(1 / np.sqrt(variance.astype(np.float64) + eps), channels)
    if weight is not None:
        scale *= weight
    shift = np.zeros_like(scale) if bias is None else np.broadcast_to(bias, scale.shape)
    normalise(_sets(x), _sets(y), np.stack((_spread(mean, channels), scale, shift)))
    return y, mean, variance


def group_norm_backward(grad, x, weight, mean, variance, eps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of x (N, C, ...), weight (C,) and bias (C,) from what `group_norm` returned."""
    channels, groups = x.shape[1], mean.shape[1]
    length = x.size // (x.shape[0] * channels)
    grad_x = channels_last_empty(x.shape, x.dtype)
    centre = _spread(mean, channels).astype(np.float64)
    inverse = _spread(1 / np.sqrt(variance.astype(np.float64) + eps), channels)
    total, product = gradient_moments(_sets(grad), _sets(x), centre)
    factor = inverse if weight is None else inverse * weight
    # the mean over a group of grad·weight, and of the same times the normalised x: parts that x's own mean took
    mean_grad = _spread(_over_groups(total * factor, groups), channels) / length
    slope = _spread(_over_groups(product * factor, groups), channels) * inverse**2 / length
    input_gradient(_sets(grad), _sets(x), _sets(grad_x), np.stack((centre, slope, mean_grad, factor)))
    return grad_x, (product * inverse).sum(0).astype(x.dtype), total.sum(0).astype(x.dtype)
