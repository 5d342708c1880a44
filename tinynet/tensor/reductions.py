"""Sums, means, extremes, order: torch's methods that make a tensor smaller or sort it."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any, Self

import numpy as np

from ..ops import reduction
from .apply import apply
from .variable import Variable, derived, wrap

values_and_indices: dict[str, Any] = {
    name: namedtuple(name, ["values", "indices"]) for name in ("max", "min", "topk", "sort")
}


class Reductions(Variable):
    """Methods over all elements or some dimensions."""

    def sum(self, dim=None, keepdim: bool = False, *, dtype=None) -> Self:
        """The sum over all elements or the dimensions ``dim``; integers add up in int64."""
        return apply(reduction.Sum, self if dtype is None else self.to(dtype), dim=dim, keepdim=keepdim)

    def mean(self, dim=None, keepdim: bool = False, *, dtype=None) -> Self:
        """The mean over all elements or the dimensions ``dim``."""
        return apply(reduction.Mean, self if dtype is None else self.to(dtype), dim=dim, keepdim=keepdim)

    def var(self, dim=None, unbiased=None, keepdim: bool = False, *, correction=1) -> Self:
        """The variance; unbiased (n - 1) unless ``correction=0``."""
        if isinstance(dim, bool):  # torch's old var(unbiased)
            dim, unbiased = None, dim
        correction = correction if unbiased is None else int(unbiased)
        return apply(reduction.Variance, self, dim=dim, correction=correction, keepdim=keepdim)

    def std(self, dim=None, unbiased=None, keepdim: bool = False, *, correction=1) -> Self:
        """The square root of the variance."""
        return self.var(dim, unbiased, keepdim, correction=correction).sqrt()

    def norm(self, p=2, dim=None, keepdim: bool = False) -> Self:
        """The Euclidean norm (p = 2), the largest magnitude (p = inf) or the sum of magnitudes (p = 1)."""
        if p in (2, 2.0, "fro", None):
            return apply(reduction.Norm, self, dim=dim, keepdim=keepdim)
        if p == 1:
            return self.abs().sum(dim, keepdim)
        if p == math.inf:
            return self.abs().amax(() if dim is None else dim, keepdim)
        raise ValueError(f"norm: p must be 1, 2 or inf, got {p!r}")

    def amax(self, dim=(), keepdim: bool = False) -> Self:
        """The maximum; ties share the gradient."""
        return apply(reduction.Extreme, self, dim=dim, keepdim=keepdim, largest=True)

    def amin(self, dim=(), keepdim: bool = False) -> Self:
        """The minimum; ties share the gradient."""
        return apply(reduction.Extreme, self, dim=dim, keepdim=keepdim, largest=False)

    def max(self, dim=None, keepdim: bool = False):
        """The maximum of all; with ``dim`` (values, indices); with a tensor the larger of both."""
        return self._extreme("max", dim, keepdim, True)

    def min(self, dim=None, keepdim: bool = False):
        """The minimum of all; with ``dim`` (values, indices); with a tensor the smaller of both."""
        return self._extreme("min", dim, keepdim, False)

    def _extreme(self, name, dim, keepdim, largest):
        if isinstance(dim, Variable):
            return self.maximum(dim) if largest else self.minimum(dim)
        if dim is None:
            return apply(reduction.Extreme, self, dim=None, largest=largest)
        indices = derived(reduction.argextreme(name, self._array, dim, largest, keepdim=True), self)
        values = self.gather(dim, indices)
        if not keepdim:
            values, indices = values.squeeze(dim), indices.squeeze(dim)
        return values_and_indices[name](values, indices)

    def argmax(self, dim=None, keepdim: bool = False) -> Self:
        """The index of the first maximum, in the flattened tensor if ``dim`` is None."""
        return derived(reduction.argextreme("argmax", self._array, dim, True, keepdim), self)

    def argmin(self, dim=None, keepdim: bool = False) -> Self:
        """The index of the first minimum, in the flattened tensor if ``dim`` is None."""
        return derived(reduction.argextreme("argmin", self._array, dim, False, keepdim), self)

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Self:
        axis = reduction.normalize_dim("argsort", dim, self.ndim)
        return derived(reduction.argsort(self._array, axis, descending), self)

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True):
        """(values, indices) in order; equal values keep theirs."""
        indices = self.argsort(dim, descending)
        return values_and_indices["sort"](self.gather(dim, indices), indices)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True):
        """(values, indices) of the ``k`` largest or smallest, always in order."""
        axis = reduction.normalize_dim("topk", dim, self.ndim)
        indices = derived(reduction.topk_order(self._array, int(k), axis, largest), self)
        return values_and_indices["topk"](self.gather(dim, indices), indices)

    def cumsum(self, dim: int) -> Self:
        return apply(reduction.CumulativeSum, self, dim=dim)

    def unique(self) -> Self:
        """The different values in ascending order."""
        return wrap(np.unique(self._array))

    def nonzero(self, *, as_tuple: bool = False):
        """The indices of the elements that are not zero, one row each, or one tensor per dimension."""
        if as_tuple:
            return tuple(wrap(part) for part in np.nonzero(self._array))
        return wrap(np.argwhere(self._array))

    def bincount(self, weights=None, minlength: int = 0) -> Self:
        """How often each non-negative integer occurs."""
        return wrap(np.bincount(self._array, None if weights is None else weights._array, minlength))


def axis_arguments(name, tensor, dim, keepdim) -> dict:
    axes = reduction.normalize_dims(name, dim, tensor.ndim)
    return {"axis": axes, "keepdims": keepdim} if tensor.ndim else {}
