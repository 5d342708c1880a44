"""Activations, softmax and dropout: ``torch.nn.functional.relu``, ``hardtanh``, ``softmax`` and their kin."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..errors import DtypeError
from ..kernels.elementwise import relu_into
from ..tape import Operation
from . import checks
from .reduction import normalize_dim


class ReLU(Operation):
    """max(x, 0), its gradient at 0 is 0; with ``out``, which may be x itself, written there.

    The output says where the gradient passes, so the input need not live.
    """

    name = "relu"

    @staticmethod
    def forward(ctx, input, out=None):
        if input.dtype.kind == "b":
            raise DtypeError("relu: boolean tensors are not supported")
        if input.dtype.kind != "f":
            y = np.maximum(input, input.dtype.type(0), out=out)
        elif out is None:
            y = kernels.relu(input)
        else:
            y = relu_into(input, out)
        ctx.save(output=y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return kernels.relu_backward(grad, ctx.output)


class Hardtanh(Operation):
    """x clipped to [min_val, max_val]; the gradient is 0 on both bounds, as in torch."""

    name = "hardtanh"

    @staticmethod
    def forward(ctx, input, *, min_val=-1.0, max_val=1.0):
        checks.floating("hardtanh", input=input)
        min_val = checks.number("hardtanh", "min_val", min_val)
        max_val = checks.number("hardtanh", "max_val", max_val)
        if min_val > max_val:
            raise ValueError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
        y = np.clip(input, input.dtype.type(min_val), input.dtype.type(max_val))
        ctx.save(output=y, min_val=y.dtype.type(min_val), max_val=y.dtype.type(max_val))
        return y

    @staticmethod
    def backward(ctx, grad):
        clipped = (ctx.output <= ctx.min_val) | (ctx.output >= ctx.max_val)
        return np.where(clipped, grad.dtype.type(0), grad)


class Sigmoid(Operation):
    """1 / (1 + exp(-x)); integers become float32."""

    name = "sigmoid"

    @staticmethod
    def forward(ctx, input):
        input = _as_floating(input)
        y = sigmoid(input)
        ctx.save(output=y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.output * (1 - ctx.output)


class Tanh(Operation):
    """Hyperbolic tangent; integers become float32."""

    name = "tanh"

    @staticmethod
    def forward(ctx, input):
        y = np.tanh(_as_floating(input))
        ctx.save(output=y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 - ctx.output * ctx.output)


class Softmax(Operation):
    """exp(x) / Σ exp(x) along ``dim``."""

    name = "softmax"

    @staticmethod
    def forward(ctx, input, *, dim):
        checks.floating("softmax", input=input)
        axis = normalize_dim("softmax", dim, input.ndim)
        y = softmax(input, axis)
        ctx.save(output=y, axis=axis)
        return y

    @staticmethod
    def backward(ctx, grad):
        y = ctx.output
        return y * (grad - _sum(grad * y, ctx.axis))


class LogSoftmax(Operation):
    """x - log Σ exp(x) along ``dim``."""

    name = "log_softmax"

    @staticmethod
    def forward(ctx, input, *, dim):
        checks.floating("log_softmax", input=input)
        axis = normalize_dim("log_softmax", dim, input.ndim)
        y = log_softmax(input, axis)
        ctx.save(output=y, axis=axis)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad - np.exp(ctx.output) * _sum(grad, ctx.axis)


class Dropout(Operation):
    """x times a mask that holds 0 (dropped) or 1 / (1 - p) (kept)."""

    name = "dropout"

    @staticmethod
    def forward(ctx, input, *, mask):
        ctx.save(mask=mask)
        return input * mask

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.mask


def check_dropout(x: np.ndarray, p: float) -> None:
    checks.floating("dropout", input=x)
    checks.number("dropout", "the probability p", p, 0, 1)


def dropout_mask(generator: np.random.Generator, x: np.ndarray, p: float) -> np.ndarray:
    """The mask of :class:`Dropout` for ``x``: 0 with probability ``p``, else 1 / (1 - p)."""
    keep = x.dtype.type(0 if p == 1 else 1 / (1 - p))
    mask = np.empty_like(x)  # in x's memory order
    mask[...] = np.where(generator.random(x.shape, dtype=np.float32) < p, x.dtype.type(0), keep)
    return mask


# The arithmetic on arrays, shared with the losses


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function; exp only ever sees -|x|, so nothing overflows."""
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), decay) / (1 + decay)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(_below_zero(x, axis))
    return exponentials / _sum(exponentials, axis)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    shifted = _below_zero(x, axis)
    with np.errstate(divide="ignore"):  # the sum over an empty axis is 0
        return shifted - np.log(_sum(np.exp(shifted), axis))


def _below_zero(x: np.ndarray, axis: int) -> np.ndarray:
    """x minus its maximum, which softmax does not notice: exp can no longer overflow."""
    if x.ndim == 0:
        return x - x
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, and what overflows is -inf
        return x - x.max(axis=axis, keepdims=True, initial=-np.inf)


def _sum(x: np.ndarray, axis: int) -> np.ndarray:
    return x.sum(axis=axis, keepdims=True) if x.ndim else x


def _as_floating(x: np.ndarray) -> np.ndarray:
    return x if x.dtype.kind == "f" else x.astype(np.float32)
