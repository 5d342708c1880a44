"""Pooling of (N, C, H, W): ``torch.nn.functional.max_pool2d``, ``avg_pool2d`` and ``adaptive_avg_pool2d``."""

from __future__ import annotations

from .. import kernels
from ..errors import ShapeError
from ..kernels.pooling import max_pool_for_training, max_pool_training_backward
from ..tape import Operation
from . import checks


class MaxPool(Operation):
    """The largest value of each window, and on request its flat index in H·W.

    The padding is -inf. The first maximum in row-major order takes the gradient; a NaN wins its window.
    """

    name = "max_pool2d"

    @staticmethod
    def forward(
        ctx, input, *, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True
    ):  # fmt: skip
        kernel, stride, padding = _check_pool("max_pool2d", input, kernel_size, stride, padding)
        dilation = checks.pair("max_pool2d", "dilation", dilation, minimum=1)
        checks.window("max_pool2d", input.shape[2:], kernel, stride, padding, dilation, ceil_mode)
        window = (kernel, stride, padding, dilation)
        find = kernels.max_pool if return_indices else max_pool_for_training
        values, indices = find(input, *window, bool(ceil_mode))
        ctx.save(indices=indices, input_shape=input.shape, window=window)
        return (values, indices) if return_indices else values

    @staticmethod
    def backward(ctx, grad, _grad_indices=None):
        return max_pool_training_backward(grad, ctx.indices, ctx.input_shape, *ctx.window)


class AveragePool(Operation):
    """The mean of each window; ``count_include_pad`` says whether the padding's zeros count as values."""

    name = "avg_pool2d"

    @staticmethod
    def forward(
        ctx, input, *, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
        divisor_override=None,
    ):  # fmt: skip
        kernel, stride, padding = _check_pool("avg_pool2d", input, kernel_size, stride, padding)
        checks.window("avg_pool2d", input.shape[2:], kernel, stride, padding, ceil_mode=ceil_mode)
        if divisor_override is not None:
            divisor_override = checks.integer("avg_pool2d", "divisor_override", divisor_override, minimum=1)
        settings = (kernel, stride, padding, bool(ceil_mode), bool(count_include_pad), divisor_override)
        ctx.save(input_shape=input.shape, settings=settings)
        return kernels.average_pool(input, *settings)

    @staticmethod
    def backward(ctx, grad):
        return kernels.average_pool_backward(grad, ctx.input_shape, *ctx.settings)


class AdaptiveAveragePool(Operation):
    """Means over windows [floor(i·I/O), ceil((i+1)·I/O)): any input gives ``output_size`` (None: its own)."""

    name = "adaptive_avg_pool2d"

    @staticmethod
    def forward(ctx, input, *, output_size):
        checks.floating("adaptive_avg_pool2d", input=input)
        checks.images("adaptive_avg_pool2d", input.shape)
        if isinstance(output_size, (tuple, list)) and len(output_size) == 2:
            output_size = [own if s is None else s for s, own in zip(output_size, input.shape[2:])]
        output_size = checks.pair("adaptive_avg_pool2d", "output_size", output_size, minimum=1)
        ctx.save(input_shape=input.shape)
        return kernels.adaptive_average_pool(input, output_size)

    @staticmethod
    def backward(ctx, grad):
        return kernels.adaptive_average_pool_backward(grad, ctx.input_shape)


def _check_pool(name, input, kernel_size, stride, padding):
    checks.floating(name, input=input)
    checks.images(name, input.shape)
    kernel = checks.pair(name, "kernel_size", kernel_size, minimum=1)
    stride = kernel if stride is None else checks.pair(name, "stride", stride, minimum=1)
    padding = checks.pair(name, "padding", padding, minimum=0)
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise ShapeError(
            f"{name}: padding {checks.by(padding)} is more than half of the kernel {checks.by(kernel)} "
            "(2·padding <= kernel keeps every window on the input)"
        )
    return kernel, stride, padding
