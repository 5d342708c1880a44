"""Convolution in two dimensions, its transpose, and the windows both slide: ``torch.nn.functional.conv2d``,
``conv_transpose2d``, ``unfold`` and ``fold``.

Convolution reads input (N, C_in, H, W) with weight (C_out, C_in / groups, kernel height, kernel width);
the transposed one swaps the roles: weight (C_in, C_out / groups, kernel height, kernel width).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .. import kernels
from ..errors import ShapeError
from ..tape import Operation
from . import checks


class Convolution(Operation):
    """y[n,o,i,j] = bias[o] + Σ_cuv weight[o,c,u,v] · x[n,c, i·stride - padding + u·dilation, (j,v alike)]."""

    name = "conv2d"

    @staticmethod
    def forward(ctx, input, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
        settings = stride, padding, dilation, groups = _settings("conv2d", stride, padding, dilation, groups)
        checks.floating("conv2d", input=input, weight=weight, bias=bias)
        _check_shapes("conv2d", input.shape, weight.shape, groups, 1)
        checks.vector("conv2d", "bias", bias, weight.shape[0])
        _check_window("conv2d", input.shape[2:], weight.shape[2:], stride, padding, dilation)
        ctx.save(**_needed(ctx, input, weight), settings=settings)
        return kernels.convolution(input, weight, bias, *settings)

    @staticmethod
    def backward(ctx, grad):
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = kernels.convolution_input_gradient(grad, ctx.weight, ctx.input_shape, *ctx.settings)
        if ctx.needs_input_grad[1]:
            shape = ctx.weight_shape
            grad_weight = kernels.convolution_weight_gradient(grad, ctx.input, shape, *ctx.settings)
        if ctx.needs_input_grad[2]:
            grad_bias = kernels.channel_sum(grad)
        return grad_input, grad_weight, grad_bias


class TransposedConvolution(Operation):
    """The input gradient of a convolution as a forward: every input pixel adds a kernel to the output."""

    name = "conv_transpose2d"

    @staticmethod
    def forward(
        ctx, input, weight, bias=None, *, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    ):  # fmt: skip
        name = "conv_transpose2d"
        settings = stride, padding, dilation, groups = _settings(name, stride, padding, dilation, groups)
        checks.floating(name, input=input, weight=weight, bias=bias)
        _check_shapes(name, input.shape, weight.shape, groups, 0)
        checks.vector(name, "bias", bias, weight.shape[1] * groups)
        output_padding = checks.pair(name, "output_padding", output_padding, minimum=0)
        size = _transposed_size(input.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
        margin = [extra // step for extra, step in zip(output_padding, stride)]
        ctx.save(**_needed(ctx, input, weight), settings=settings, margin=margin)
        shape = (input.shape[0], weight.shape[1] * groups, *size)
        y = kernels.convolution_input_gradient(_extended(input, margin), weight, shape, *settings)
        if bias is not None:
            y += bias[:, None, None]
        return y

    @staticmethod
    def backward(ctx, grad):
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            height, width = ctx.input_shape[2:]
            grad_input = kernels.convolution(grad, ctx.weight, None, *ctx.settings)[:, :, :height, :width]
        if ctx.needs_input_grad[1]:
            input = _extended(ctx.input, ctx.margin)
            grad_weight = kernels.convolution_weight_gradient(input, grad, ctx.weight_shape, *ctx.settings)
        if ctx.needs_input_grad[2]:
            grad_bias = kernels.channel_sum(grad)
        return grad_input, grad_weight, grad_bias


class Unfold(Operation):
    """The windows of an image as columns: (N, C, H, W) to (N, C·kh·kw, windows)."""

    name = "unfold"

    @staticmethod
    def forward(ctx, input, *, kernel_size, dilation=1, padding=0, stride=1):
        settings = kernel, stride, padding, dilation = _window_settings(
            "unfold", kernel_size, stride, padding, dilation
        )
        checks.floating("unfold", input=input)
        checks.images("unfold", input.shape)
        checks.window("unfold", input.shape[2:], kernel, stride, padding, dilation)
        ctx.save(input_shape=input.shape, settings=settings)
        return kernels.im2col(input, *settings)

    @staticmethod
    def backward(ctx, grad):
        return kernels.col2im(grad, ctx.input_shape, *ctx.settings)


class Fold(Operation):
    """The transpose of :class:`Unfold`: (N, C·kh·kw, windows) added up into images of ``output_size``."""

    name = "fold"

    @staticmethod
    def forward(ctx, input, *, output_size, kernel_size, dilation=1, padding=0, stride=1):
        settings = kernel, stride, padding, dilation = _window_settings(
            "fold", kernel_size, stride, padding, dilation
        )
        output_size = checks.pair("fold", "output_size", output_size, minimum=1)
        checks.floating("fold", input=input)
        windows = checks.window("fold", output_size, kernel, stride, padding, dilation)
        channels = _check_columns(input.shape, kernel, output_size, windows)
        ctx.save(settings=settings)
        return kernels.col2im(input, (input.shape[0], channels, *output_size), *settings)

    @staticmethod
    def backward(ctx, grad):
        return kernels.im2col(grad, *ctx.settings)


def same_padding(kernel_size, stride, dilation) -> tuple[tuple[int, int], tuple[int, int]]:
    """``padding="same"`` as (padding on all sides, one more row and column at the bottom and right: 0 or 1).

    An even kernel needs an odd number of padded rows; torch puts the odd one at the bottom or right.
    """
    if checks.pair("conv2d", "stride", stride, minimum=1) != (1, 1):
        raise ShapeError(f"conv2d: padding='same' keeps the size, so it needs stride 1, got stride {stride}")
    dilation = checks.pair("conv2d", "dilation", dilation, minimum=1)
    total = [d * (k - 1) for d, k in zip(dilation, kernel_size)]
    return (total[0] // 2, total[1] // 2), (total[0] % 2, total[1] % 2)


def _settings(name, stride, padding, dilation, groups):
    return (
        checks.pair(name, "stride", stride, minimum=1),
        checks.pair(name, "padding", padding, minimum=0),
        checks.pair(name, "dilation", dilation, minimum=1),
        checks.integer(name, "groups", groups, minimum=1),
    )


def _window_settings(name, kernel_size, stride, padding, dilation):
    kernel = checks.pair(name, "kernel_size", kernel_size, minimum=1)
    return kernel, *_settings(name, stride, padding, dilation, groups=1)[:3]


@lru_cache(maxsize=1024)  # a net asks the same at every step
def _check_shapes(name, input_shape, weight_shape, groups, in_axis) -> None:
    """Ranks and channel counts; ``in_axis`` is the axis of the weight that belongs to the input."""
    checks.images(name, input_shape)
    if len(weight_shape) != 4 or 0 in weight_shape:
        raise ShapeError(f"{name}: the weight must have four axes, none of them 0, got shape {weight_shape}")
    in_channels = weight_shape[in_axis]
    if in_axis == 1:
        checks.divides(name, groups, "out_channels", weight_shape[0])
        checks.divides(name, groups, "in_channels", input_shape[1])
        in_channels *= groups
    else:
        checks.divides(name, groups, "in_channels", in_channels)
    if input_shape[1] != in_channels:
        raise ShapeError(
            f"{name}: the input of shape {input_shape} has {input_shape[1]} channels, but the weight of "
            f"shape {weight_shape} with groups={groups} takes {in_channels}"
        )


_check_window = lru_cache(maxsize=1024)(checks.window)


def _needed(ctx, input, weight):
    """What backward reads: the input only for the weight's gradient, the weight only for the input's."""
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    return {
        "input": input if needs_weight else None,
        "weight": weight if needs_input else None,
        "input_shape": input.shape,
        "weight_shape": weight.shape,
    }


def _transposed_size(size, kernel, stride, padding, output_padding, dilation) -> tuple[int, int]:
    """(H - 1)·stride - 2·padding + dilation·(kernel - 1) + output_padding + 1, checked."""
    for extra, step, spread in zip(output_padding, stride, dilation):
        if extra >= max(step, spread):
            raise ShapeError(
                f"conv_transpose2d: output_padding {checks.by(output_padding)} must be smaller than "
                f"stride {checks.by(stride)} or dilation {checks.by(dilation)}"
            )
    output = []
    for s, k, step, p, extra, spread in zip(size, kernel, stride, padding, output_padding, dilation):
        output.append((s - 1) * step - 2 * p + spread * (k - 1) + extra + 1)
        if output[-1] < 1:
            raise ShapeError(
                f"conv_transpose2d: padding {checks.by(padding)} leaves nothing of the output "
                f"((size-1)·stride - 2·padding + dilation·(kernel-1) + output_padding + 1 = "
                f"{(s - 1) * step} - {2 * p} + {spread * (k - 1)} + {extra} + 1 = {output[-1]} < 1)"
            )
    return output[0], output[1]


def _extended(input: np.ndarray, margin) -> np.ndarray:
    """Zero rows and columns, the input of the windows that an output_padding >= stride makes room for."""
    if not any(margin):
        return input
    return np.pad(input, ((0, 0), (0, 0), (0, margin[0]), (0, margin[1])))


def _check_columns(shape, kernel, output_size, windows) -> int:
    """The channels that columns of ``shape`` fold into."""
    area, count = kernel[0] * kernel[1], windows[0] * windows[1]
    if len(shape) != 3 or not shape[1]:
        raise ShapeError(f"fold: the input must be (N, C·kh·kw, windows) or without N, got shape {shape}")
    if shape[1] % area:
        raise ShapeError(f"fold: {shape[1]} rows are no multiple of the kernel {checks.by(kernel)} = {area}")
    if shape[2] != count:
        raise ShapeError(
            f"fold: the input has {shape[2]} windows, but an output of {checks.by(output_size)} "
            f"is made of {checks.by(windows)} = {count}"
        )
    return shape[1] // area
