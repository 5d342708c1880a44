"""Methods that change a tensor in place; torch marks them with a trailing underscore."""

from __future__ import annotations

import numpy as np

from .. import dtypes, streams
from ..errors import DtypeError, ShapeError
from ..ops import activation, arithmetic
from .apply import apply_inplace, common_dtype
from .variable import Variable, as_tensor, wrap


class InPlace(Variable):
    """In-place methods: the version counter counts each, so that the tape notices a stale value."""

    def _with_operand(self, name: str, other):
        """``other`` in this tensor's dtype; refuses what would have to be lowered, and a larger shape."""
        result = common_dtype(self, other)
        if not dtypes.can_keep(self._array.dtype, result):
            raise DtypeError(f"{name}: a result of dtype {result.name} cannot be kept in a {self.dtype} tensor")
        operand = as_tensor(other, self.dtype)
        try:
            fits = np.broadcast_shapes(self._array.shape, operand._array.shape) == self._array.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{name}: shape {list(operand.shape)} does not broadcast to {list(self.shape)}, which is kept in place"
            )
        return operand

    def add_(self, other, *, alpha=1):
        operand = self._with_operand("add_", other if alpha == 1 else other * alpha)
        return apply_inplace(self, arithmetic.Add, operand, out=self._array)

    def sub_(self, other, *, alpha=1):
        operand = self._with_operand("sub_", other if alpha == 1 else other * alpha)
        return apply_inplace(self, arithmetic.Subtract, operand, out=self._array)

    def mul_(self, other):
        return apply_inplace(self, arithmetic.Multiply, self._with_operand("mul_", other))

    def div_(self, other):
        if self._array.dtype.kind != "f":
            raise DtypeError(f"div_: a floating result cannot be kept in a {self.dtype} tensor")
        return apply_inplace(self, arithmetic.Divide, self._with_operand("div_", other))

    def pow_(self, exponent):
        return apply_inplace(self, arithmetic.Power, self._with_operand("pow_", exponent))

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    def neg_(self):
        return apply_inplace(self, arithmetic.Negative)

    def exp_(self):
        return apply_inplace(self, arithmetic.Exp)

    def sqrt_(self):
        return apply_inplace(self, arithmetic.Sqrt)

    def clamp_(self, min=None, max=None):
        return apply_inplace(self, arithmetic.Clamp, min=min, max=max)

    def relu_(self):
        return apply_inplace(self, activation.ReLU, out=self._array)

    def sigmoid_(self):
        return apply_inplace(self, activation.Sigmoid)

    def tanh_(self):
        return apply_inplace(self, activation.Tanh)

    def masked_fill_(self, mask, value):
        self[mask] = value
        return self

    def copy_(self, src):
        """Takes over the values of ``src``, broadcast and cast."""
        self[...] = as_tensor(src)
        return self

    def fill_(self, value):
        self[...] = value
        return self

    def zero_(self):
        return self.fill_(0)

    def _draw(self, array: np.ndarray):
        self[...] = wrap(array.astype(self._array.dtype, copy=False))
        return self

    def normal_(self, mean=0.0, std=1.0, *, generator=None):
        """Filled with draws from N(mean, std²)."""
        return self._draw(streams.normal(self._array.shape, self._array.dtype, generator) * std + mean)

    def uniform_(self, from_=0.0, to=1.0, *, generator=None):
        """Filled with draws from [from, to)."""
        return self._draw(from_ + (to - from_) * streams.uniform(self._array.shape, self._array.dtype, generator))

    def bernoulli_(self, p=0.5, *, generator=None):
        """Filled with ones with probability ``p``, zeros otherwise."""
        return self._draw(streams.uniform(self._array.shape, np.dtype(np.float64), generator) < p)
