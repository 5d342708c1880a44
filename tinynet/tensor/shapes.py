"""Shapes, views and indexing: torch's methods that move values without computing."""

from __future__ import annotations

import itertools
import math
from typing import Self

import numpy as np

from ..errors import ShapeError
from ..ops import indexing, reduction, shape
from .apply import apply, apply_inplace
from .layout import exposed
from .variable import Variable, as_tensor


class Shapes(Variable):
    """Views where NumPy can make them, copies where not."""

    def reshape(self, *shape_) -> Self:
        """The same elements in another shape; one size may be -1."""
        resolved = shape.resolve_shape("reshape", sizes_of(shape_), self._array.shape)
        return apply(shape.Reshape, self, shape=resolved)

    def view(self, *shape_) -> Self:
        """As reshape, but refuses where that would need a copy; with a dtype, ``to(dtype)`` is meant."""
        resolved = shape.resolve_shape("view", sizes_of(shape_), self._array.shape)
        try:
            exposed(self).reshape(resolved, copy=False)
        except ValueError:
            raise ShapeError(
                f"view: shape {list(resolved)} cannot be a view of {list(self.shape)} with strides "
                f"{self.stride()}; use .reshape(...)"
            ) from None
        return apply(shape.Reshape, self, shape=resolved)

    def view_as(self, other: Variable) -> Self:
        return self.view(other.shape)

    def reshape_as(self, other: Variable) -> Self:
        return self.reshape(other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Self:
        """The dimensions from ``start_dim`` to ``end_dim`` as one."""
        ndim = self._array.ndim
        first = reduction.normalize_dim("flatten", start_dim, ndim)
        last = reduction.normalize_dim("flatten", end_dim, ndim)
        if first > last:
            raise ShapeError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
        sizes = self._array.shape
        joined = (*sizes[:first], math.prod(sizes[first : last + 1]), *sizes[last + 1 :])
        return apply(shape.Reshape, self, shape=joined)

    def unflatten(self, dim: int, sizes) -> Self:
        """One dimension as several."""
        axis = reduction.normalize_dim("unflatten", dim, self.ndim)
        inner = shape.resolve_shape("unflatten", sizes, (self._array.shape[axis],))
        return self.reshape(*self._array.shape[:axis], *inner, *self._array.shape[axis + 1 :])

    def permute(self, *dims) -> Self:
        """A view with the dimensions in the order ``dims``."""
        return apply(shape.Permute, self, dims=sizes_of(dims))

    def transpose(self, dim0: int, dim1: int) -> Self:
        """A view with two dimensions exchanged."""
        order = list(range(self.ndim))
        first = reduction.normalize_dim("transpose", dim0, self.ndim)
        second = reduction.normalize_dim("transpose", dim1, self.ndim)
        if order:
            order[first], order[second] = order[second], order[first]
        return apply(shape.Permute, self, dims=tuple(order))

    def swapaxes(self, axis0: int, axis1: int) -> Self:
        """NumPy's name of transpose."""
        return self.transpose(axis0, axis1)

    def t(self) -> Self:
        """The transposed matrix."""
        if self.ndim > 2:
            raise ShapeError(f"t: expected at most 2 dimensions, got shape {list(self.shape)}")
        return self.transpose(0, 1) if self.ndim == 2 else self.permute(*range(self.ndim))

    @property
    def T(self) -> Self:
        return apply(shape.Permute, self, dims=tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Self:
        return self.transpose(-1, -2)

    def squeeze(self, dim=None) -> Self:
        """Without dimensions of size 1: all of them, or those in ``dim``."""
        axes = reduction.normalize_dims("squeeze", dim, self.ndim)
        kept = [size for axis, size in enumerate(self._array.shape) if size != 1 or axis not in axes]
        return apply(shape.Reshape, self, shape=tuple(kept))

    def unsqueeze(self, dim: int) -> Self:
        """With a dimension of size 1 at ``dim``."""
        axis = reduction.normalize_dim("unsqueeze", dim, self.ndim + 1)
        sizes = self._array.shape
        return apply(shape.Reshape, self, shape=(*sizes[:axis], 1, *sizes[axis:]))

    def expand(self, *sizes) -> Self:
        """A view that repeats dimensions of size 1; -1 keeps a size."""
        return apply(shape.Expand, self, shape=sizes_of(sizes))

    def expand_as(self, other: Variable) -> Self:
        return self.expand(other.shape)

    def broadcast_to(self, size) -> Self:
        return self.expand(size)

    def repeat(self, *repeats) -> Self:
        """Copies side by side: ``repeats`` times along each dimension."""
        times = sizes_of(repeats)
        if len(times) < self.ndim:
            raise ShapeError(f"repeat: {len(times)} repeats for a tensor of {self.ndim} dimensions")
        sizes = (1,) * (len(times) - self.ndim) + self._array.shape
        spread = [part for time, size in zip(times, sizes) for part in (time, size)]
        single = [part for size in sizes for part in (1, size)]
        joined = [time * size for time, size in zip(times, sizes)]
        return self.reshape(single).expand(spread).reshape(joined)

    def flip(self, *dims) -> Self:
        """A copy in reverse order along ``dims``."""
        return apply(shape.Flip, self, dims=sizes_of(dims))

    def unbind(self, dim: int = 0) -> tuple[Self, ...]:
        """The slices along ``dim``."""
        axis = reduction.normalize_dim("unbind", dim, self.ndim)
        before = (slice(None),) * axis
        return tuple(self[(*before, index)] for index in range(self._array.shape[axis]))

    def split(self, split_size, dim: int = 0) -> tuple[Self, ...]:
        """Views of ``split_size`` along ``dim`` (the last may be smaller), or of the sizes listed."""
        axis = reduction.normalize_dim("split", dim, self.ndim)
        total = self._array.shape[axis]
        if isinstance(split_size, (list, tuple)):
            sizes = [int(size) for size in split_size]
            if sum(sizes) != total:
                raise ShapeError(f"split: sizes {sizes} add up to {sum(sizes)}, dimension {dim} has {total}")
        elif split_size <= 0:
            raise ShapeError(f"split: split_size must be positive, got {split_size}")
        else:
            count = max(1, -(-total // split_size))
            sizes = [min(split_size, total - start * split_size) for start in range(count)]
        starts = np.cumsum([0, *sizes]).tolist()
        before = (slice(None),) * axis
        return tuple(self[(*before, slice(a, b))] for a, b in itertools.pairwise(starts))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Self, ...]:
        """At most ``chunks`` views of equal size along ``dim``."""
        axis = reduction.normalize_dim("chunk", dim, self.ndim)
        if chunks <= 0:
            raise ShapeError(f"chunk: chunks must be positive, got {chunks}")
        return self.split(max(1, -(-self._array.shape[axis] // chunks)), dim)

    def narrow(self, dim: int, start: int, length: int) -> Self:
        """A view of ``length`` elements from ``start`` along ``dim``."""
        axis = reduction.normalize_dim("narrow", dim, self.ndim)
        size = self._array.shape[axis]
        if not (0 <= start <= size and 0 <= length <= size - start):
            raise ShapeError(f"narrow: {start} to {start + length} exceeds dimension {dim} of size {size}")
        return self[(slice(None),) * axis + (slice(start, start + length),)]

    def index_select(self, dim: int, index: Variable) -> Self:
        """The slices along ``dim`` that ``index`` lists."""
        axis = reduction.normalize_dim("index_select", dim, self.ndim)
        return self[(slice(None),) * axis + (index,)]

    def gather(self, dim: int, index: Variable) -> Self:
        """Picks along ``dim``: out[i][j] = self[index[i][j]][j] for dim 0."""
        return apply(shape.Gather, self, index, dim=dim)

    def __getitem__(self, key) -> Self:
        resolved = indexing.to_key(key, self._array.shape)
        return apply(shape.Index if resolved.advanced is None else shape.Pick, self, key=resolved)

    def __setitem__(self, key, value) -> None:
        resolved = indexing.to_key(key, self._array.shape)
        value = as_tensor(value, self.dtype)
        apply_inplace(self, shape.SetIndex, value, key=resolved)


def sizes_of(sizes) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    return tuple(int(size.__index__()) for size in sizes)
