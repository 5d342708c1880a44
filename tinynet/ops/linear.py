"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from .. import kernels
from ..errors import DtypeError, ShapeError
from ..tape import Operation
from .broadcasting import sum_to


def _check_dtypes(name: str, **arrays) -> None:
    dtypes = {key: array.dtype for key, array in arrays.items() if array is not None}
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"{key} is {dtype.name}" for key, dtype in dtypes.items())
        raise DtypeError(f"{name}: expected one dtype, but {listed}")


def _rows(x: np.ndarray) -> np.ndarray:
    """All leading axes as one: (*, n) -> (rows, n)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b for at least two dimensions each; a stack against one matrix becomes a single product."""
    if a.dtype.kind != "f":
        return np.matmul(a, b)
    if a.ndim == 2 and b.ndim == 2:
        return kernels.matrix_product(a, b)
    if b.ndim == 2:
        return kernels.matrix_product(_rows(a), b).reshape(*a.shape[:-1], b.shape[-1])
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a, stack + a.shape[-2:]).reshape(math.prod(stack), *a.shape[-2:])
    right = np.broadcast_to(b, stack + b.shape[-2:]).reshape(math.prod(stack), *b.shape[-2:])
    out = np.empty((len(left), a.shape[-2], b.shape[-1]), a.dtype)
    for index in range(len(left)):
        out[index] = kernels.matrix_product(left[index], right[index])
    return out.reshape(*stack, a.shape[-2], b.shape[-1])


class MatMul(Operation):
    """a @ b: vectors, matrices or stacks of them, as torch.matmul."""

    name = "matmul"

    @staticmethod
    def forward(ctx, a, b):
        _check_dtypes("matmul", left=a, right=b)
        if a.ndim == 0 or b.ndim == 0:
            raise ShapeError(f"matmul: both operands need a dimension, got shapes {list(a.shape)} and {list(b.shape)}")
        inner = b.shape[0] if b.ndim == 1 else b.shape[-2]
        if a.shape[-1] != inner:
            raise ShapeError(
                f"matmul: the inner sizes differ: {list(a.shape)} @ {list(b.shape)}, {a.shape[-1]} against {inner}"
            )
        try:
            np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise ShapeError(
                f"matmul: the leading sizes of {list(a.shape)} and {list(b.shape)} do not broadcast"
            ) from None
        needs_a, needs_b = ctx.needs_input_grad[:2]
        ctx.save(a=a if needs_b else None, b=b if needs_a else None, shapes=(a.shape, b.shape))
        out = _product(a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
        return np.asarray(_drop(out, a.ndim == 1, b.ndim == 1))

    @staticmethod
    def backward(ctx, grad):
        first, second = ctx.shapes
        if len(first) == 1:
            grad = np.expand_dims(grad, -1 if len(second) == 1 else -2)
        if len(second) == 1:
            grad = np.expand_dims(grad, -1)
        grad_a = grad_b = None
        if ctx.b is not None:
            b = ctx.b[:, None] if len(second) == 1 else ctx.b
            grad_a = _sum_stack(_product(grad, np.swapaxes(b, -1, -2)), (1, *first) if len(first) == 1 else first)
            grad_a = grad_a.reshape(first)
        if ctx.a is not None:
            a = ctx.a[None, :] if len(first) == 1 else ctx.a
            grad_b = _weight_gradient(a, grad, (*second, 1) if len(second) == 1 else second).reshape(second)
        return grad_a, grad_b


def _drop(out: np.ndarray, row: bool, column: bool) -> np.ndarray:
    """Takes away the axes that were added to make vectors matrices."""
    if column:
        out = out[..., 0]
    if row:
        out = out[..., 0] if column else out[..., 0, :]
    return out


def _sum_stack(gradient: np.ndarray, shape) -> np.ndarray:
    return sum_to(gradient, tuple(shape))


def _weight_gradient(a: np.ndarray, grad: np.ndarray, shape) -> np.ndarray:
    """aᵀ @ grad, summed over the stack if the right operand was a single matrix."""
    if len(shape) == 2:
        return _product(_rows(a).T, _rows(grad))
    return _sum_stack(_product(np.swapaxes(a, -1, -2), grad), shape)


class Linear(Operation):
    """x Wᵀ + b: input (*, in), weight (out, in), bias (out,) or None -> (*, out)."""

    name = "linear"

    @staticmethod
    def forward(ctx, x, weight, bias=None):
        _check_dtypes("linear", input=x, weight=weight, bias=bias)
        if weight.ndim != 2:
            raise ShapeError(f"linear: weight must have shape (out, in), got {list(weight.shape)}")
        if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
            raise ShapeError(
                f"linear: the input's last size must be {weight.shape[1]} (weight {list(weight.shape)} is (out, in)), "
                f"got an input of shape {list(x.shape)}"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ShapeError(f"linear: bias must have shape [{weight.shape[0]}], got {list(bias.shape)}")
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        ctx.save(input=x if needs_weight else None, weight=weight if needs_x else None, input_shape=x.shape)
        rows = kernels.matrix_product(_rows(x), weight.T)
        if bias is not None:
            rows += bias
        return rows.reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx, grad):
        rows = _rows(grad)
        grad_x = grad_weight = None
        if ctx.weight is not None:
            grad_x = kernels.matrix_product(rows, ctx.weight).reshape(ctx.input_shape)
        if ctx.input is not None:
            grad_weight = kernels.matrix_product(rows.T, _rows(ctx.input))
        if len(ctx.needs_input_grad) == 2:  # called without a bias at all
            return grad_x, grad_weight
        return grad_x, grad_weight, rows.sum(axis=0) if ctx.needs_input_grad[2] else None
