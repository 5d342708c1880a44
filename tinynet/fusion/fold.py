"""Batch norm folded into the convolution before it: the mathematics.

In evaluation mode batch norm is an affine map of each channel o, because its statistics are constants:

    z_o = γ_o · (y_o - μ_o) / √(σ²_o + ε) + β_o  =  y_o · s_o + t_o,
    s_o = γ_o / √(σ²_o + ε),    t_o = β_o - μ_o · s_o.

A convolution is affine too: y_o = W_o ∗ x + b_o, W_o being all weights that make channel o. One after the other,

    z_o = s_o · (W_o ∗ x + b_o) + t_o = (s_o · W_o) ∗ x + (s_o · b_o + t_o),

is again a convolution, with weights W'_o = s_o · W_o and bias b'_o = s_o · b_o + t_o: the batch norm costs nothing.
This holds for any stride, dilation, grouping, and padding (which pads x, before either). It does not hold for a
norm *before* a convolution with padding: the zeros around the image would have to be normalised too.

Frozen batch norm, or any scale and shift per channel written as `*` and `+`, is the same map; several in a row
multiply up: (y·s + t)·s' + t' = y·(s·s') + (t·s' + t'). All of it is done in float64 and rounded once, so the
folded weights are as exact as their dtype allows; the outputs differ from the eager ones only by where they round.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (arXiv 1712.05877), section 3.2; torch.nn.utils.fusion.fuse_conv_bn_eval.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from tinynet.fusion.trace import Constant, Operand, Record, Value
from tinynet.ops.arithmetic import Add, Divide, Multiply, Subtract
from tinynet.ops.normalization import BatchNorm


class ChannelMap(NamedTuple):
    """y·scale + shift, both float64 of shape (C,)."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def identity(cls, channels: int) -> Self:
        return cls(np.ones(channels), np.zeros(channels))

    def then(self, later: ChannelMap) -> ChannelMap:
        """This map, and `later` applied to its result."""
        return ChannelMap(self.scale * later.scale, self.shift * later.scale + later.shift)


def channel_map(record: Record, value: Value) -> ChannelMap | None:
    """What `record` does to `value` (N, C, ...) if it is an affine map of each channel, else None."""
    if len(value.shape) < 2 or record.outputs[0].shape != value.shape or record.outputs[0].dtype != value.dtype:
        return None
    if issubclass(record.operation, BatchNorm):
        return None if record.settings["training"] else _of_batch_norm(record, value)
    if issubclass(record.operation, (Add, Subtract, Multiply, Divide)) and value.dtype.kind == "f":
        return _of_arithmetic(record, value)
    return None


def folded(weight: np.ndarray, bias: np.ndarray | None, by: ChannelMap) -> tuple[np.ndarray, np.ndarray]:
    """Weight (O, ...) and bias (O,) of a convolution or linear layer followed by `by`, in the weight's dtype."""
    scale = by.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    shift = by.shift if bias is None else bias * by.scale + by.shift
    return (weight * scale).astype(weight.dtype), shift.astype(weight.dtype)


def _of_batch_norm(record: Record, value: Value) -> ChannelMap | None:
    input, weight, bias = (*record.inputs, None, None)[:3]
    if input is not value or isinstance(weight, Value) or isinstance(bias, Value):
        return None
    mean, variance = (record.settings[name].astype(np.float64) for name in ("running_mean", "running_var"))
    scale = 1 / np.sqrt(variance + record.settings["eps"])
    if weight is not None:
        scale = scale * weight.array
    shift = -mean * scale
    return ChannelMap(scale, shift if bias is None else shift + bias.array)


def _of_arithmetic(record: Record, value: Value) -> ChannelMap | None:
    left, right = record.inputs
    number = _per_channel(right if left is value else left, value)
    if number is None:
        return None
    one, zero = np.ones_like(number), np.zeros_like(number)
    if issubclass(record.operation, Multiply):
        return ChannelMap(number, zero)
    if issubclass(record.operation, Add):
        return ChannelMap(one, number)
    if issubclass(record.operation, Subtract):
        return ChannelMap(one, -number) if left is value else ChannelMap(-one, number)
    return ChannelMap(one / number, zero) if left is value else None  # c / y is not affine


def _per_channel(operand: Operand, value: Value) -> np.ndarray | None:
    """A constant that holds one number per channel of `value`, or one for all, as (C,) float64."""
    if not isinstance(operand, Constant):
        return None
    array = operand.array
    aligned = (1,) * (len(value.shape) - array.ndim) + array.shape
    wanted = (1, value.shape[1], *(1,) * (len(value.shape) - 2))
    if any(size not in (1, full) for size, full in zip(aligned, wanted)) or len(aligned) != len(wanted):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(aligned), wanted).reshape(-1)
