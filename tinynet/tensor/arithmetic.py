"""Arithmetic, comparison and logic: the operators of a Tensor and the methods of the same meaning."""

from __future__ import annotations

from typing import Self

import numpy as np

from ..errors import ShapeError
from ..ops import activation, arithmetic, linear
from .apply import apply, binary, compare, floating_or_default, logical, step_function, undifferentiable, where
from .reductions import axis_arguments
from .variable import SCALARS, Variable, as_tensor, derived


class Arithmetic(Variable):
    """Elementwise operators and matrix products."""

    def __add__(self, other):
        return binary(arithmetic.Add, self, other)

    def __radd__(self, other):
        return binary(arithmetic.Add, other, self)

    def __sub__(self, other):
        return binary(arithmetic.Subtract, self, other)

    def __rsub__(self, other):
        return binary(arithmetic.Subtract, other, self)

    def __mul__(self, other):
        return binary(arithmetic.Multiply, self, other)

    def __rmul__(self, other):
        return binary(arithmetic.Multiply, other, self)

    def __truediv__(self, other):
        return binary(arithmetic.Divide, self, other, floating=True)

    def __rtruediv__(self, other):
        return binary(arithmetic.Divide, other, self, floating=True)

    def __pow__(self, exponent):
        if isinstance(exponent, SCALARS) and exponent == 2:
            return apply(arithmetic.Multiply, self, self)
        return binary(arithmetic.Power, self, exponent)

    def __rpow__(self, base):
        return binary(arithmetic.Power, base, self)

    def __floordiv__(self, other):
        return undifferentiable("floor_divide", np.floor_divide, self, other)

    def __rfloordiv__(self, other):
        return undifferentiable("floor_divide", np.floor_divide, other, self)

    def __mod__(self, other):
        return undifferentiable("remainder", np.remainder, self, other)

    def __matmul__(self, other):
        return apply(linear.MatMul, self, as_tensor(other))

    def __rmatmul__(self, other):
        return apply(linear.MatMul, as_tensor(other), self)

    def __neg__(self):
        return apply(arithmetic.Negative, self)

    def __pos__(self):
        return self

    def __abs__(self):
        return apply(arithmetic.Absolute, self)

    def add(self, other, *, alpha=1) -> Self:
        """self + alpha · other."""
        return self + (other if alpha == 1 else other * alpha)

    def sub(self, other, *, alpha=1) -> Self:
        """self - alpha · other."""
        return self - (other if alpha == 1 else other * alpha)

    def mul(self, other) -> Self:
        return self * other

    def div(self, other) -> Self:
        return self / other

    def pow(self, exponent) -> Self:
        return self**exponent

    def neg(self) -> Self:
        return -self

    def matmul(self, other) -> Self:
        return self @ other

    def mm(self, mat2) -> Self:
        """The product of two matrices."""
        if self.ndim != 2 or mat2.ndim != 2:
            raise ShapeError(f"mm: expected two matrices, got shapes {list(self.shape)} and {list(mat2.shape)}")
        return self @ mat2

    def bmm(self, mat2) -> Self:
        """The products of two stacks of matrices."""
        if self.ndim != 3 or mat2.ndim != 3 or len(self) != len(mat2):
            raise ShapeError(
                f"bmm: expected two equally long stacks of matrices, got {list(self.shape)} and {list(mat2.shape)}"
            )
        return self @ mat2

    def dot(self, other) -> Self:
        """The inner product of two vectors."""
        if self.ndim != 1 or other.ndim != 1:
            raise ShapeError(f"dot: expected two vectors, got shapes {list(self.shape)} and {list(other.shape)}")
        return self @ other

    def abs(self) -> Self:
        return apply(arithmetic.Absolute, self)

    def exp(self) -> Self:
        return apply(arithmetic.Exp, floating_or_default(self))

    def log(self) -> Self:
        """The natural logarithm."""
        return apply(arithmetic.Log, floating_or_default(self))

    def sqrt(self) -> Self:
        return apply(arithmetic.Sqrt, floating_or_default(self))

    def rsqrt(self) -> Self:
        return 1 / self.sqrt()

    def reciprocal(self) -> Self:
        return 1 / self

    def square(self) -> Self:
        return self**2

    def sin(self) -> Self:
        return apply(arithmetic.Sin, floating_or_default(self))

    def cos(self) -> Self:
        return apply(arithmetic.Cos, floating_or_default(self))

    def tanh(self) -> Self:
        return apply(activation.Tanh, floating_or_default(self))

    def sigmoid(self) -> Self:
        return apply(activation.Sigmoid, floating_or_default(self))

    def relu(self) -> Self:
        return apply(activation.ReLU, self)

    def softmax(self, dim: int) -> Self:
        return apply(activation.Softmax, self, dim=dim)

    def log_softmax(self, dim: int) -> Self:
        return apply(activation.LogSoftmax, self, dim=dim)

    def clamp(self, min=None, max=None):
        """Values held between ``min`` and ``max``, numbers or tensors."""
        if isinstance(min, Variable) or isinstance(max, Variable):
            low = self if min is None else self.maximum(as_tensor(min))
            return low if max is None else low.minimum(as_tensor(max))
        return apply(arithmetic.Clamp, self, min=min, max=max)

    clip = clamp

    def maximum(self, other) -> Self:
        """The larger of two tensors, element by element."""
        return binary(arithmetic.Maximum, self, other)

    def minimum(self, other) -> Self:
        """The smaller of two tensors, element by element."""
        return binary(arithmetic.Minimum, self, other)

    def where(self, condition, other) -> Self:
        """self where the condition holds, ``other`` elsewhere."""
        return where(condition, self, other)

    def masked_fill(self, mask, value) -> Self:
        """``value`` where the mask holds."""
        return where(mask, value, self)

    def sign(self) -> Self:
        return step_function(np.sign, self)

    def floor(self) -> Self:
        return step_function(np.floor, self)

    def ceil(self) -> Self:
        return step_function(np.ceil, self)

    def round(self) -> Self:
        """Rounds half to even."""
        return step_function(np.round, self)

    def __eq__(self, other):
        return compare(np.equal, self, other)

    def __ne__(self, other):
        return compare(np.not_equal, self, other)

    def __lt__(self, other):
        return compare(np.less, self, other)

    def __le__(self, other):
        return compare(np.less_equal, self, other)

    def __gt__(self, other):
        return compare(np.greater, self, other)

    def __ge__(self, other):
        return compare(np.greater_equal, self, other)

    eq, ne, lt, le, gt, ge = __eq__, __ne__, __lt__, __le__, __gt__, __ge__

    def __invert__(self):
        return logical("~", np.invert, self)

    def __and__(self, other):
        return logical("&", np.bitwise_and, self, other)

    def __or__(self, other):
        return logical("|", np.bitwise_or, self, other)

    def __xor__(self, other):
        return logical("^", np.bitwise_xor, self, other)

    def logical_and(self, other) -> Self:
        return self.bool() & as_tensor(other).bool()

    def logical_or(self, other) -> Self:
        return self.bool() | as_tensor(other).bool()

    def logical_not(self) -> Self:
        return ~self.bool()

    def isnan(self) -> Self:
        return derived(np.isnan(self._array), self)

    def isinf(self) -> Self:
        return derived(np.isinf(self._array), self)

    def isfinite(self) -> Self:
        return derived(np.isfinite(self._array), self)

    def any(self, dim=None, keepdim: bool = False) -> Self:
        return derived(self._array.any(**axis_arguments("any", self, dim, keepdim)), self)

    def all(self, dim=None, keepdim: bool = False) -> Self:
        return derived(self._array.all(**axis_arguments("all", self, dim, keepdim)), self)

    def equal(self, other: Variable) -> bool:
        """Whether shape and all elements are equal."""
        return bool(np.array_equal(self._array, other._array))

    def allclose(self, other: Variable, rtol=1e-05, atol=1e-08, equal_nan: bool = False) -> bool:
        return bool(np.allclose(self._array, other._array, rtol, atol, equal_nan))

    def isclose(self, other: Variable, rtol=1e-05, atol=1e-08, equal_nan: bool = False) -> Self:
        return derived(np.isclose(self._array, other._array, rtol, atol, equal_nan), self, other)
