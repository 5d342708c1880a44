"""Sizes and source positions: the pure formulas behind convolution, pooling and resizing.

Nothing here checks its arguments; the operations explain bad ones before they get this far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Pair = tuple[int, int]
Sizes = Sequence[int]  # (height, width)


def window_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Positions of a sliding window: floor((size + 2·padding - dilation·(kernel-1) - 1) / stride) + 1.

    With `ceil_mode` the quotient is rounded up, and a last window that would start in the right padding
    is dropped (torch.nn.MaxPool2d). The result is below 1 if the kernel does not fit.
    """
    free = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return free // stride + 1
    output = -(-free // stride) + 1
    if (output - 1) * stride >= size + padding:
        output -= 1
    return output


def convolution_output_size(size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Pair:
    """(OH, OW) of a convolution over (H, W)."""
    height, width = (window_output_size(*axis) for axis in zip(size, kernel, stride, padding, dilation))
    return height, width


def pooling_output_size(
    size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Pair:
    """(OH, OW) of a pooling window over (H, W)."""
    height, width = (
        window_output_size(*axis, ceil_mode=ceil_mode) for axis in zip(size, kernel, stride, padding, dilation)
    )
    return height, width


def valid_outputs(offset: int, size: int, output: int, stride: int) -> tuple[int, int]:
    """Range [start, stop) of output positions o whose source o·stride + offset lies inside [0, size)."""
    start = max(0, -(offset // stride))
    stop = min(output, (size - 1 - offset) // stride + 1)
    return start, max(start, stop)


class Windows(NamedTuple):
    """Averaging windows along one axis: output o covers [start[o], stop[o]) and counts as divisor[o]."""

    start: np.ndarray
    stop: np.ndarray
    divisor: np.ndarray


def average_windows(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, count_include_pad: bool
) -> Windows:
    """Windows of torch.nn.AvgPool2d along one axis: clipped to the input, padding counted on request.

    The divisor counts at most up to the end of the right padding, so a window that ceil_mode lets reach
    further is divided by less than `kernel`.
    """
    output = window_output_size(size, kernel, stride, padding, 1, ceil_mode)
    first = np.arange(output, dtype=np.int64) * stride - padding
    last = np.minimum(first + kernel, size + padding)
    start, stop = np.maximum(first, 0), np.minimum(last, size)
    divisor = last - first if count_include_pad else np.maximum(stop - start, 1)
    return Windows(start, stop, divisor)


def adaptive_windows(size: int, output: int) -> Windows:
    """Windows of torch.nn.AdaptiveAvgPool2d along one axis: [floor(o·I/O), ceil((o+1)·I/O))."""
    positions = np.arange(output, dtype=np.int64)
    start = positions * size // output
    stop = -(-(positions + 1) * size // output)
    return Windows(start, stop, stop - start)


def nearest_indices(size: int, output: int, scale: float | None, exact: bool) -> np.ndarray:
    """Source index of every output position under torch's `nearest` (or `nearest-exact`) resizing.

    `scale` is the scale_factor that the user gave, or None to use output / size. The arithmetic is torch's:
    a float32 ratio, multiplied in float32 (`nearest`) or, with the half added, in float64 (`nearest-exact`).
    """
    positions = np.arange(output, dtype=np.int64)
    if output == size and not exact:
        return positions
    if output == 2 * size and not exact:
        return positions >> 1
    ratio = np.float32(1.0 / scale) if scale else np.float32(size) / np.float32(output)
    if exact:
        source = ((positions + 0.5) * np.float64(ratio)).astype(np.float32)
    else:
        source = positions.astype(np.float32) * ratio
    return np.minimum(np.floor(source).astype(np.int64), size - 1)


class Blend(NamedTuple):
    """Linear interpolation along one axis: output o = (1 - weight[o])·x[low[o]] + weight[o]·x[high[o]]."""

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


def bilinear_sources(size: int, output: int, align_corners: bool, scale: float | None, dtype: np.dtype | type) -> Blend:
    """Sources and weights of bilinear resizing along one axis, in `dtype`'s precision (torch's rule).

    Half-pixel centres: source = max(0, (o + 0.5)·ratio - 0.5) with ratio = size / output (or 1 / scale);
    with `align_corners` source = o·(size - 1) / (output - 1).
    """
    real = np.dtype(dtype).type
    positions = np.arange(output, dtype=dtype)
    if output == size:
        index = np.arange(output, dtype=np.int64)
        return Blend(index, index, np.zeros(output, dtype))
    if align_corners:
        ratio = real(size - 1) / real(output - 1) if output > 1 else real(0)
        source = positions * ratio
    else:
        ratio = real(1.0 / scale) if scale else real(size) / real(output)
        source = np.maximum((positions + real(0.5)) * ratio - real(0.5), real(0))
    low = np.minimum(np.floor(source).astype(np.int64), size - 1)
    weight = np.clip(source - low.astype(dtype), 0, 1).astype(dtype)
    return Blend(low, np.minimum(low + 1, size - 1), weight)
