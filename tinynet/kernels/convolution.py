"""Convolution (cross-correlation, as torch.nn.functional.conv2d) and its two gradients.

All three are matrix products between weights, windows (`im2col`) and output pixels:

    y = W·columns        columns' = Wᵀ·y', x' = col2im(columns')        W' = y'·columnsᵀ
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tinynet.kernels import correlation, depthwise, indirect, packing, winograd, winograd_gradient
from tinynet.kernels.geometry import Sizes, convolution_output_size
from tinynet.kernels.im2col import col2im, im2col
from tinynet.kernels.launch import product
from tinynet.kernels.layout import channels_last_empty
from tinynet.kernels.registry import Kernel, runs_compiled

# The plain path takes as many images at once as fit their columns into this many bytes.
_COLUMN_BYTES = 1 << 30


# --- the definition ----------------------------------------------------------------------------------------


def _every_product(input_shape, weight_shape, stride, padding, dilation, groups):
    """All index pairs of a convolution: (output n, o, oy, ox), (input n, c, y, x), (weight o, c, i, j)."""
    batch, _, height, width = input_shape
    out_channels, group_channels, *kernel = weight_shape
    out_height, out_width = convolution_output_size((height, width), kernel, stride, padding, dilation)
    for n, o, oy, ox in np.ndindex(batch, out_channels, out_height, out_width):
        first_channel = o // (out_channels // groups) * group_channels
        for c, i, j in np.ndindex(group_channels, *kernel):
            y = oy * stride[0] - padding[0] + i * dilation[0]
            x = ox * stride[1] - padding[1] + j * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                yield (n, o, oy, ox), (n, first_channel + c, y, x), (o, c, i, j)


def _convolution_loops(x, weight, bias, stride, padding, dilation, groups):
    y = np.zeros(_output_shape(x.shape, weight.shape, stride, padding, dilation), x.dtype)
    for at_output, at_input, at_weight in _every_product(x.shape, weight.shape, stride, padding, dilation, groups):
        y[at_output] += weight[at_weight] * x[at_input]
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _input_gradient_loops(grad, weight, input_shape, stride, padding, dilation, groups):
    grad_x = np.zeros(input_shape, grad.dtype)
    for at_output, at_input, at_weight in _every_product(input_shape, weight.shape, stride, padding, dilation, groups):
        grad_x[at_input] += weight[at_weight] * grad[at_output]
    return grad_x


def _weight_gradient_loops(grad, x, weight_shape, stride, padding, dilation, groups):
    grad_weight = np.zeros(weight_shape, grad.dtype)
    for at_output, at_input, at_weight in _every_product(x.shape, weight_shape, stride, padding, dilation, groups):
        grad_weight[at_weight] += x[at_input] * grad[at_output]
    return grad_weight


# --- the plain path: im2col and a product ------------------------------------------------------------------


def _output_shape(
    input_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[int, ...]:
    output = convolution_output_size(input_shape[2:], weight_shape[2:], stride, padding, dilation)
    return input_shape[0], weight_shape[0], *output


def _image_slices(batch: int, rows: int, pixels: int, itemsize: int) -> list[slice]:
    """The batch in pieces whose columns fit into memory; one piece in all usual cases."""
    step = max(1, _COLUMN_BYTES // max(1, rows * pixels * itemsize))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _plain_slices(x_shape, weight_shape, out_shape, itemsize):
    rows = x_shape[1] * weight_shape[2] * weight_shape[3]
    return _image_slices(x_shape[0], rows, out_shape[2] * out_shape[3], itemsize)


def _convolution_numpy(x, weight, bias, stride, padding, dilation, groups):
    """y (N, O, OH, OW) from x (N, C, H, W), weight (O, C/groups, kh, kw) and bias (O,) or None."""
    y = np.empty(_output_shape(x.shape, weight.shape, stride, padding, dilation), x.dtype)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    for images in _plain_slices(x.shape, weight.shape, y.shape, x.itemsize):
        columns = im2col(x[images], weight.shape[2:], stride, padding, dilation)
        columns = columns.reshape(len(columns), groups, rows.shape[2], columns.shape[2])
        y[images] = product(rows, columns).reshape(y[images].shape)
    if bias is not None:
        y += bias.reshape(-1, 1, 1)
    return y


def _input_gradient_numpy(grad, weight, input_shape, stride, padding, dilation, groups):
    """Gradient (N, C, H, W) of a convolution's input from grad (N, O, OH, OW)."""
    grad_x = np.empty(input_shape, grad.dtype)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)
    for images in _plain_slices(input_shape, weight.shape, grad.shape, grad.itemsize):
        part = grad[images]
        pixels = part.shape[2] * part.shape[3]
        columns = product(rows, part.reshape(len(part), groups, weight.shape[0] // groups, pixels))
        columns = columns.reshape(len(part), -1 if columns.size else groups * rows.shape[1], pixels)
        shape = (len(part), *input_shape[1:])
        grad_x[images] = col2im(columns, shape, weight.shape[2:], stride, padding, dilation)
    return grad_x


def _weight_gradient_numpy(grad, x, weight_shape, stride, padding, dilation, groups):
    """Gradient (O, C/groups, kh, kw) of a convolution's weight from grad (N, O, OH, OW)."""
    out_channels, group_channels, *kernel = weight_shape
    rows = group_channels * kernel[0] * kernel[1]
    grad_weight = np.zeros((groups, out_channels // groups, rows), grad.dtype)
    for images in _plain_slices(x.shape, weight_shape, grad.shape, x.itemsize):
        columns = im2col(x[images], tuple(kernel), stride, padding, dilation)
        part = grad[images].reshape(len(columns), groups, out_channels // groups, columns.shape[2])
        columns = columns.reshape(len(columns), groups, rows, columns.shape[2])
        left = part.transpose(1, 2, 0, 3).reshape(groups, out_channels // groups, -1)
        right = columns.transpose(1, 2, 0, 3).reshape(groups, rows, -1)
        grad_weight += product(left, right.transpose(0, 2, 1))
    return grad_weight.reshape(weight_shape)


# --- Numba: no columns at all (indirect.py, correlation.py, depthwise.py; 3 x 3: winograd.py) ----------------

_known_output_shape = functools.lru_cache(maxsize=1024)(_output_shape)  # a net asks the same at every step
_LONGEST_LAUNCH = 5e8  # nanoseconds of estimated work, so that Ctrl-C is answered soon


@functools.lru_cache(maxsize=1024)
def _launch_slices(batch: int, y_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> list[slice]:
    """The batch in pieces of at most half a second each."""
    multiplications = float(math.prod(y_shape) * math.prod(weight_shape[1:]))
    step = max(1, int(_LONGEST_LAUNCH * batch // max(1.0, multiplications / 80)))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _is_depthwise(channels: int, weight_shape: tuple[int, ...], groups: int) -> bool:
    return groups == channels == weight_shape[0] and groups > 1


def _would_spread(values: np.ndarray, weight_shape: tuple[int, ...], groups: int) -> bool:
    """Small groups are multiplied together, with zeros between them: an inf or NaN must not reach its neighbours."""
    if not packing.merges(weight_shape, groups, values.dtype):
        return False
    return not np.isfinite(values).all()


def _convolution_numba(x, weight, bias, stride, padding, dilation, groups):
    window = (tuple(stride), tuple(padding), tuple(dilation), groups)
    shape = _known_output_shape(x.shape, weight.shape, *window[:3])
    if 0 in shape or not weight.size:
        return _convolution_numpy(x, weight, bias, stride, padding, dilation, groups)
    if _is_depthwise(x.shape[1], weight.shape, groups):
        return depthwise.convolve(x, weight, bias, shape[2:], stride, padding, dilation)
    if _would_spread(x, weight.shape, groups):
        return _convolution_numpy(x, weight, bias, stride, padding, dilation, groups)
    y = channels_last_empty(shape, x.dtype)
    by_winograd = winograd.wins(x.shape, weight.shape, *window, x.dtype)
    for images in _launch_slices(len(x), shape, weight.shape):
        if by_winograd:
            winograd.convolve(x[images], weight, None, bias, window[1], y[images])
        else:
            indirect.convolve(x[images], weight, None, bias, *window, y[images])
    return y


def _input_gradient_numba(grad, weight, input_shape, stride, padding, dilation, groups):
    if not grad.size or not weight.size:
        return np.zeros(input_shape, grad.dtype)
    if _is_depthwise(input_shape[1], weight.shape, groups):
        return depthwise.input_gradient(grad, weight, input_shape, stride, padding, dilation)
    if _would_spread(grad, weight.shape, groups):
        return _input_gradient_numpy(grad, weight, input_shape, stride, padding, dilation, groups)
    grad_x = channels_last_empty(input_shape, grad.dtype)
    turned = tuple(2 - pad for pad in padding)  # the padding of the convolution that gives it
    by_winograd = winograd.wins(grad.shape, weight.shape, stride, turned, dilation, groups, grad.dtype)
    for images in _launch_slices(len(grad), grad.shape, weight.shape):
        if by_winograd:
            winograd.convolve(grad[images], weight, None, None, turned, grad_x[images], transposed=True)
        else:
            indirect.input_gradient(grad[images], weight, grad_x[images], stride, padding, dilation, groups)
    return grad_x


def _weight_gradient_numba(grad, x, weight_shape, stride, padding, dilation, groups):
    if not grad.size or 0 in weight_shape:
        return np.zeros(weight_shape, grad.dtype)
    if _is_depthwise(x.shape[1], weight_shape, groups):
        return depthwise.weight_gradient(grad, x, weight_shape, stride, padding, dilation)
    total = None
    window = (stride, padding, dilation, groups)
    by_winograd = winograd_gradient.wins(x.shape, weight_shape, *window, x.dtype)
    for images in _launch_slices(len(x), grad.shape, weight_shape):
        part = winograd_gradient.weight_gradient(grad[images], x[images], padding) if by_winograd else None
        if part is None:
            part = correlation.weight_gradient(grad[images], x[images], weight_shape, *window)
        total = part if total is None else total + part
    return total


class PackedConvolution:
    """A convolution whose weight (O, C/groups, kh, kw) is packed once, for inference with a fixed weight.

    Calling it gives relu(convolution(x) + bias + residual) with the additions made while the tile is in cache.
    Where Numba is not the backend, or this family is overridden, it is the plain convolution with the same result.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None, stride: Sizes, padding: Sizes, dilation: Sizes,
                 groups: int) -> None:  # fmt: skip
        self.weight = np.array(weight, order="C")
        self.bias = None if bias is None else np.array(bias)
        self.window = (tuple(stride), tuple(padding), tuple(dilation), groups)
        self._panels: np.ndarray | None = None
        self._transformed: np.ndarray | None = None  # for Winograd's algorithm

    def output_shape(self, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, O, OH, OW) for an input (N, C, H, W)."""
        return _known_output_shape(tuple(x_shape), self.weight.shape, *self.window[:3])

    def __call__(self, x: np.ndarray, residual: np.ndarray | None = None, relu: bool = False,
                 out: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
        """x (N, C, H, W) and residual (N, O, OH, OW) in any layout; `out` is a channels-last array to write into.

        `out` may be the memory of `residual`, never that of `x`.
        """
        shape = self.output_shape(x.shape)
        out = channels_last_empty(shape, x.dtype) if out is None else out
        if self._is_plain(x, out):
            y = convolution(x, self.weight, self.bias, *self.window)
            y = y if residual is None else y + residual
            out[...] = np.maximum(y, 0) if relu else y
            return out
        by_winograd = winograd.wins(x.shape, self.weight.shape, *self.window, x.dtype)
        if by_winograd and self._transformed is None:
            self._transformed = winograd.transformed(self.weight)
        elif not by_winograd and self._panels is None:
            self._panels = packing.pack_forward(self.weight, self.window[3])
        for images in _launch_slices(len(x), shape, self.weight.shape):
            rest = None if residual is None else residual[images]
            if by_winograd:
                winograd.convolve(x[images], self.weight, self._transformed, self.bias, self.window[1], out[images],
                                  rest, relu)  # fmt: skip
            else:
                indirect.convolve(x[images], self.weight, self._panels, self.bias, *self.window, out[images], rest,
                                  relu)  # fmt: skip
        return out

    def _is_plain(self, x: np.ndarray, out: np.ndarray) -> bool:
        groups = self.window[3]
        return (
            not runs_compiled("convolution", "im2col")
            or not out.size
            or not self.weight.size
            or _is_depthwise(x.shape[1], self.weight.shape, groups)
            or _would_spread(x, self.weight.shape, groups)
        )


convolution = Kernel(
    "convolution",
    "convolution",
    loops=_convolution_loops,
    numpy=_convolution_numpy,
    numba=_convolution_numba,
    shapes=lambda x, weight, bias, *window: (_output_shape(x.shape, weight.shape, *window[:3]),),
    builds_on_family=True,
)

convolution_input_gradient = Kernel(
    "convolution_input_gradient",
    "convolution",
    loops=_input_gradient_loops,
    numpy=_input_gradient_numpy,
    numba=_input_gradient_numba,
    shapes=lambda grad, weight, input_shape, *window: (tuple(input_shape),),
    builds_on_family=True,
)

convolution_weight_gradient = Kernel(
    "convolution_weight_gradient",
    "convolution",
    loops=_weight_gradient_loops,
    numpy=_weight_gradient_numpy,
    numba=_weight_gradient_numba,
    shapes=lambda grad, x, weight_shape, *window: (tuple(weight_shape),),
    builds_on_family=True,
)
