"""Sums, means, extremes and order, over all elements or some dimensions."""

from __future__ import annotations

import math
import operator

import numpy as np

from ..errors import DtypeError, ShapeError
from ..tape import Operation


def normalize_dims(name: str, dim, ndim: int) -> tuple[int, ...]:
    """``dim`` (None, an int or several) as sorted non-negative axes; raises IndexError or ShapeError."""
    if dim is None or (isinstance(dim, (tuple, list)) and len(dim) == 0):
        return tuple(range(ndim))
    axes = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    resolved = tuple(normalize_dim(name, axis, ndim) for axis in axes)
    if len(set(resolved)) != len(resolved):
        raise ShapeError(f"{name}: dim {tuple(axes)} names a dimension twice")
    return tuple(sorted(resolved))


def normalize_dim(name: str, dim: int, ndim: int) -> int:
    """``dim`` counted from the front. A 0-d tensor counts as having one dimension, as in torch."""
    dim = operator.index(dim)
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise IndexError(
            f"{name}: dim {dim} is out of range for a tensor of {ndim} dimensions (expected {-limit} to {limit - 1})"
        )
    return dim % limit


def require_floating(name: str, x: np.ndarray) -> None:
    if x.dtype.kind != "f":
        raise DtypeError(f"{name}: expected a floating tensor, got {x.dtype.name}; convert it with .float()")


def _restore(reduced: np.ndarray, shape, axes, keepdim: bool) -> np.ndarray:
    """A reduced array seen as broadcasting against the original shape."""
    if keepdim or not shape:
        return reduced
    return reduced.reshape([1 if axis in axes else size for axis, size in enumerate(shape)])


def _spread(grad: np.ndarray, shape, axes, keepdim: bool) -> np.ndarray:
    return np.broadcast_to(_restore(grad, shape, axes, keepdim), shape)


def _axes_argument(x: np.ndarray, axes):
    return axes if x.ndim else None


def _count(x: np.ndarray, axes) -> int:
    return math.prod(x.shape[axis] for axis in axes) if x.ndim else 1


def _total(x: np.ndarray, axes, keepdim: bool, divisor: int | None = None) -> np.ndarray:
    """The sum over ``axes``, divided if asked: integers in int64, float16 in float32 on the way."""
    floating = x.dtype.kind == "f"
    widened = (np.float32 if x.dtype == np.float16 else x.dtype) if floating else np.int64
    total = x.sum(axis=_axes_argument(x, axes), keepdims=keepdim and x.ndim > 0, dtype=widened)
    if divisor is not None:
        total = total / total.dtype.type(divisor)
    return np.asarray(total, x.dtype if floating else np.int64)


class Sum(Operation):
    """The sum; integers and booleans add up in int64."""

    name = "sum"

    @staticmethod
    def forward(ctx, x, dim=None, keepdim=False):
        axes = normalize_dims("sum", dim, x.ndim)
        ctx.save(shape=x.shape, axes=axes, keepdim=keepdim)
        return _total(x, axes, keepdim)

    @staticmethod
    def backward(ctx, grad):
        return _spread(grad, ctx.shape, ctx.axes, ctx.keepdim)


class Mean(Operation):
    """The mean of a floating tensor; NaN over nothing."""

    name = "mean"

    @staticmethod
    def forward(ctx, x, dim=None, keepdim=False):
        require_floating("mean", x)
        axes = normalize_dims("mean", dim, x.ndim)
        count = _count(x, axes)
        ctx.save(shape=x.shape, axes=axes, keepdim=keepdim, count=count)
        return _total(x, axes, keepdim, divisor=count)

    @staticmethod
    def backward(ctx, grad):
        return _spread(grad / grad.dtype.type(max(ctx.count, 1)), ctx.shape, ctx.axes, ctx.keepdim)


class Variance(Operation):
    """The variance with ``correction`` taken from the count (1: unbiased, torch's default; 0: biased)."""

    name = "var"

    @staticmethod
    def forward(ctx, x, dim=None, correction=1, keepdim=False):
        require_floating("var", x)
        axes = normalize_dims("var", dim, x.ndim)
        count = _count(x, axes)
        mean = x.sum(axis=_axes_argument(x, axes), keepdims=x.ndim > 0) / x.dtype.type(count)
        divisor = x.dtype.type(max(count - correction, 0))
        squares = np.square(x - mean).sum(axis=_axes_argument(x, axes), keepdims=keepdim and x.ndim > 0)
        ctx.save(input=x, mean=mean, axes=axes, keepdim=keepdim, divisor=divisor)
        return np.asarray(squares / divisor)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.input
        scale = _restore(grad, x.shape, ctx.axes, ctx.keepdim) * (x.dtype.type(2) / ctx.divisor)
        return (x - ctx.mean) * scale


class Norm(Operation):
    """The Euclidean norm, with gradient 0 at 0."""

    name = "norm"

    @staticmethod
    def forward(ctx, x, dim=None, keepdim=False):
        require_floating("norm", x)
        axes = normalize_dims("norm", dim, x.ndim)
        squares = np.square(x).sum(axis=_axes_argument(x, axes), keepdims=keepdim and x.ndim > 0)
        out = np.asarray(np.sqrt(squares))
        ctx.save(input=x, output=out, axes=axes, keepdim=keepdim)
        return out

    @staticmethod
    def backward(ctx, grad):
        x = ctx.input
        norm = _restore(ctx.output, x.shape, ctx.axes, ctx.keepdim)
        upstream = _restore(grad, x.shape, ctx.axes, ctx.keepdim)
        safe = np.where(norm == 0, x.dtype.type(1), norm)
        return np.where(norm == 0, x.dtype.type(0), upstream * (x / safe))


class Extreme(Operation):
    """The maximum (or minimum) of some dimensions; ties share the gradient evenly, as torch.amax does."""

    name = "amax"

    @staticmethod
    def forward(ctx, x, dim=None, keepdim=False, largest=True):
        axes = normalize_dims("amax", dim, x.ndim)
        if any(x.shape[axis] == 0 for axis in axes if x.ndim):
            raise ShapeError(f"max/min: nothing to compare in a tensor of shape {list(x.shape)} over dim {axes}")
        reduce = np.max if largest else np.min
        out = np.asarray(reduce(x, axis=_axes_argument(x, axes), keepdims=keepdim and x.ndim > 0))
        ctx.save(input=x, output=out, axes=axes, keepdim=keepdim)
        return out

    @staticmethod
    def backward(ctx, grad):
        x = ctx.input
        extreme = _restore(ctx.output, x.shape, ctx.axes, ctx.keepdim)
        chosen = (x == extreme) | (np.isnan(x) & np.isnan(extreme))
        ties = chosen.sum(axis=_axes_argument(x, ctx.axes), keepdims=x.ndim > 0)
        upstream = _restore(grad, x.shape, ctx.axes, ctx.keepdim)
        return np.where(chosen, upstream / ties.astype(x.dtype), x.dtype.type(0))


class CumulativeSum(Operation):
    """The running sum along one dimension."""

    name = "cumsum"

    @staticmethod
    def forward(ctx, x, dim):
        axis = normalize_dim("cumsum", dim, x.ndim)
        ctx.save(axis=axis)
        if x.ndim == 0:
            return x.copy()
        return np.cumsum(x, axis=axis, dtype=x.dtype if x.dtype.kind == "f" else np.int64)

    @staticmethod
    def backward(ctx, grad):
        if grad.ndim == 0:
            return grad
        return np.ascontiguousarray(np.flip(np.cumsum(np.flip(grad, ctx.axis), ctx.axis), ctx.axis))


# which elements: plain array functions, the gradient flows through shape.Gather


def argsort(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """A stable order along ``axis``; NaN counts as the largest, as in torch."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(x, axis=axis, kind="stable").astype(np.int64)
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.ascontiguousarray(x.shape[axis] - 1 - np.flip(backwards, axis)).astype(np.int64)


def topk_order(x: np.ndarray, k: int, axis: int, largest: bool) -> np.ndarray:
    """The indices of the ``k`` largest (smallest) along ``axis``, in order; equal values by position."""
    size = x.shape[axis] if x.ndim else 1
    if not 0 <= k <= size:
        raise ShapeError(f"topk: k = {k}, but dim {axis} of shape {list(x.shape)} has {size} elements")
    if x.ndim == 0:
        return np.zeros((), np.int64)
    order = argsort(x, axis, largest)
    return np.ascontiguousarray(np.take(order, np.arange(k), axis=axis))


def argextreme(name: str, x: np.ndarray, dim, largest: bool, keepdim: bool = False) -> np.ndarray:
    """The index of the first extreme element, flat if ``dim`` is None. NaN wins, as in torch."""
    find = np.argmax if largest else np.argmin
    axis = None if dim is None else normalize_dim(name, dim, x.ndim)
    if x.size == 0 and (axis is None or x.shape[axis] == 0):
        raise ShapeError(f"{name}: nothing to compare in a tensor of shape {list(x.shape)}")
    if x.ndim == 0:
        return np.zeros((), np.int64)
    return np.asarray(find(x, axis=axis, keepdims=keepdim), dtype=np.int64)
