"""Operations that move values without computing: shapes, views, indexing, joining, padding."""

from __future__ import annotations

import math

import numpy as np

from ..errors import DtypeError, ShapeError
from ..tape import Operation
from .broadcasting import sum_to
from .reduction import normalize_dim


def resolve_shape(name: str, shape, current: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with at most one -1 filled in; raises ShapeError with the element counts if it does not fit."""
    wanted = tuple(int(size.__index__()) for size in shape)
    total = math.prod(current)
    if wanted.count(-1) > 1 or any(size < -1 for size in wanted):
        raise ShapeError(f"{name}: shape {list(wanted)} may hold one -1 and no other negative size")
    known = math.prod(size for size in wanted if size != -1)
    if -1 in wanted:
        if known == 0 or total % known:
            raise ShapeError(f"{name}: {list(current)} ({total} elements) does not fit {list(wanted)}")
        return tuple(total // known if size == -1 else size for size in wanted)
    if known != total:
        raise ShapeError(
            f"{name}: {list(current)} has {total} elements, {list(wanted)} would need {known}"
        )
    return wanted


class Reshape(Operation):
    """The same elements, row-major, in another shape: a view where possible, else a copy."""

    name = "reshape"
    view = True

    @staticmethod
    def forward(ctx, x, shape):
        ctx.save(shape=x.shape)
        return x.reshape(shape)

    @staticmethod
    def backward(ctx, grad):
        return grad.reshape(ctx.shape)


class Permute(Operation):
    """A view with the dimensions in another order."""

    name = "permute"
    view = True

    @staticmethod
    def forward(ctx, x, dims):
        order = tuple(normalize_dim("permute", dim, x.ndim) for dim in dims)
        if sorted(order) != list(range(x.ndim)):
            raise ShapeError(f"permute: dims {tuple(dims)} do not name each of the {x.ndim} dimensions once")
        ctx.save(inverse=tuple(np.argsort(order)) if order else ())
        return x.transpose(order)

    @staticmethod
    def backward(ctx, grad):
        return grad.transpose(ctx.inverse)


class Expand(Operation):
    """A view that repeats dimensions of size 1 without copying; -1 keeps a size."""

    name = "expand"
    view = True

    @staticmethod
    def forward(ctx, x, shape):
        extra = len(shape) - x.ndim
        if extra < 0:
            raise ShapeError(f"expand: {list(shape)} has fewer dimensions than the tensor's {list(x.shape)}")
        sizes: list[int] = []
        for axis, size in enumerate(shape):
            present = x.shape[axis - extra] if axis >= extra else None
            if size == -1 and present is None:
                raise ShapeError(f"expand: -1 in {list(shape)} stands at a dimension that {list(x.shape)} lacks")
            if size == -1 and present is not None:
                size = present
            if size < 0 or (present is not None and present not in (1, size)):
                raise ShapeError(
                    f"expand: {list(x.shape)} cannot become {list(shape)}: dimension {axis} has size {present}, "
                    "and only size 1 can be stretched"
                )
            sizes.append(size)
        ctx.save(shape=x.shape)
        return np.broadcast_to(x, sizes)

    @staticmethod
    def backward(ctx, grad):
        return sum_to(grad, ctx.shape)


class Flip(Operation):
    """The elements in reverse order along some dimensions (a copy, as in torch)."""

    name = "flip"

    @staticmethod
    def forward(ctx, x, dims):
        axes = tuple(normalize_dim("flip", dim, x.ndim) for dim in dims)
        ctx.save(axes=axes)
        return np.ascontiguousarray(np.flip(x, axes)).reshape(x.shape)

    @staticmethod
    def backward(ctx, grad):
        return np.ascontiguousarray(np.flip(grad, ctx.axes)).reshape(grad.shape)


class Index(Operation):
    """x[key] with slices and integers (see indexing.Key): a view."""

    name = "getitem"
    view = True

    @staticmethod
    def forward(ctx, x, key):
        ctx.save(shape=x.shape, key=key)
        return key.read(x)

    @staticmethod
    def backward(ctx, grad):
        out = np.zeros(ctx.shape, grad.dtype)
        ctx.key.add(out, grad)
        return out


class Pick(Index):
    """x[key] with masks or arrays of indices: a copy. An element picked twice gets both gradients."""

    view = False


class SetIndex(Operation):
    """x with x[key] = value, written in place."""

    name = "setitem"

    @staticmethod
    def forward(ctx, x, value, key):
        place = key.read(x)
        try:
            np.broadcast_to(value, place.shape)
        except ValueError:
            raise ShapeError(
                f"setitem: a value of shape {list(value.shape)} does not broadcast to the place of shape "
                f"{list(place.shape)}"
            ) from None
        ctx.save(key=key, value_shape=value.shape)
        key.write(x, value)
        return x

    @staticmethod
    def backward(ctx, grad):
        kept = grad.copy()
        ctx.key.write(kept, 0)
        return kept, sum_to(ctx.key.read(grad), ctx.value_shape)


class Gather(Operation):
    """out[..., i, ...] = x[..., index[..., i, ...], ...] along ``dim``. Source: torch.gather."""

    name = "gather"

    @staticmethod
    def forward(ctx, x, index, dim):
        axis = normalize_dim("gather", dim, x.ndim)
        if index.dtype.kind not in "iu":
            raise DtypeError(f"gather: the index must be an integer tensor, got {index.dtype.name}")
        if index.ndim != x.ndim or any(
            index.shape[other] > x.shape[other] for other in range(x.ndim) if other != axis
        ):
            raise ShapeError(
                f"gather: an index of shape {list(index.shape)} does not fit {list(x.shape)} along dim {axis}"
            )
        size = x.shape[axis] if x.ndim else 1
        if index.size and (index.min() < 0 or index.max() >= size):
            raise IndexError(f"gather: index {int(index.max())} is out of range for dim {axis} of size {size}")
        ctx.save(index=index, axis=axis, shape=x.shape)
        if x.ndim == 0:
            return x.copy()
        return np.take_along_axis(_cut(x, index, axis), index, axis)

    @staticmethod
    def backward(ctx, grad):
        out = np.zeros(ctx.shape, grad.dtype)
        if not ctx.shape:
            return grad, None
        places = list(np.ogrid[tuple(slice(size) for size in ctx.index.shape)])
        places[ctx.axis] = ctx.index
        np.add.at(out, tuple(places), grad)
        return out, None


def _cut(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    """``x`` limited to the index's sizes on every axis but ``axis``."""
    return x[tuple(slice(None) if other == axis else slice(size) for other, size in enumerate(index.shape))]


class Concatenate(Operation):
    """Tensors joined along an existing dimension."""

    name = "cat"

    @staticmethod
    def forward(ctx, *arrays, dim=0):
        if not arrays:
            raise ValueError("cat: expected at least one tensor")
        ndim = max(array.ndim for array in arrays)
        if any(array.ndim == 0 for array in arrays):
            raise ShapeError("cat: a 0-d tensor cannot be joined; use stack")
        axis = normalize_dim("cat", dim, ndim)
        first = next(array for array in arrays if array.ndim == ndim)
        for position, array in enumerate(arrays):
            same = array.ndim == ndim and all(
                array.shape[other] == first.shape[other] for other in range(ndim) if other != axis
            )
            if not same:
                raise ShapeError(
                    f"cat: tensor {position} of shape {list(array.shape)} does not fit {list(first.shape)}: all "
                    f"sizes except dim {axis} must be equal"
                )
        ctx.save(axis=axis, sizes=[array.shape[axis] for array in arrays])
        return np.concatenate(arrays, axis)

    @staticmethod
    def backward(ctx, grad):
        return tuple(np.split(grad, np.cumsum(ctx.sizes)[:-1], ctx.axis))


class Pad(Operation):
    """Constant padding; ``pad`` holds (before, after) pairs from the last dimension on, negative crops.

    Source: torch.nn.functional.pad(mode="constant").
    """

    name = "pad"

    @staticmethod
    def forward(ctx, x, pad, value=0.0):
        pad = tuple(int(size) for size in pad)
        if len(pad) % 2 or len(pad) > 2 * x.ndim:
            raise ShapeError(
                f"pad: {pad} must hold (before, after) pairs for at most the {x.ndim} dimensions of the input"
            )
        pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[-2::-2], pad[-1::-2]))
        for axis, (before, after) in enumerate(pairs):
            if x.shape[axis] + before + after < 0:
                raise ShapeError(
                    f"pad: dimension {axis} of size {x.shape[axis]} with padding ({before}, {after}) would be negative"
                )
        source = tuple(slice(max(-b, 0), size - max(-a, 0)) for (b, a), size in zip(pairs, x.shape))
        target = tuple(
            slice(max(b, 0), max(size + b + a - max(a, 0), 0)) for (b, a), size in zip(pairs, x.shape)
        )
        out = np.full_like(x, value, shape=[size + b + a for (b, a), size in zip(pairs, x.shape)])
        out[target] = x[source]
        ctx.save(shape=x.shape, source=source, target=target)
        return out

    @staticmethod
    def backward(ctx, grad):
        out = np.zeros_like(grad, shape=ctx.shape)
        out[ctx.source] = grad[ctx.target]
        return out
