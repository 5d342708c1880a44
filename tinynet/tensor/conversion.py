"""Other dtypes, copies, and new tensors of the same kind."""

from __future__ import annotations

from typing import Self

import numpy as np

from .. import dtypes
from ..dtypes import as_numpy_dtype
from ..ops import arithmetic
from .apply import apply
from .device import CPU
from .shapes import sizes_of
from .variable import Variable, as_array, wrap


class Conversion(Variable):
    """torch's ``to`` and its shorthands."""

    def to(self, *args, dtype=None, device=None, copy: bool = False, non_blocking: bool = False):
        """Another dtype; the device is always the cpu. Takes a dtype, a device or a tensor to be like."""
        for argument in args:
            if isinstance(argument, Variable):
                dtype = argument.dtype
            elif isinstance(argument, str) or type(argument) is type(CPU):
                device = argument
            elif not isinstance(argument, bool):
                dtype = argument
        if device is not None:
            type(CPU)(device)
        wanted = self._array.dtype if dtype is None else as_numpy_dtype(dtype)
        if wanted == self._array.dtype:
            return self.clone() if copy else self
        return apply(arithmetic.Cast, self, dtype=wanted)

    def type(self, dtype=None):
        """The tensor in another dtype."""
        return self.to(dtype)

    def type_as(self, other: Variable) -> Self:
        return self.to(other.dtype)

    def float(self) -> Self:
        return self.to(dtypes.float32)

    def double(self) -> Self:
        return self.to(dtypes.float64)

    def half(self) -> Self:
        return self.to(dtypes.float16)

    def long(self) -> Self:
        return self.to(dtypes.int64)

    def int(self) -> Self:
        return self.to(dtypes.int32)

    def bool(self) -> Self:
        return self.to(dtypes.bool)

    def cpu(self):
        return self

    def clone(self) -> Self:
        """A copy, on the tape."""
        return apply(arithmetic.Clone, self)

    def contiguous(self):
        """The tensor itself if it is contiguous, else a copy."""
        return self if self.is_contiguous() else apply(arithmetic.Clone, self, order="C")

    def new_tensor(self, data, dtype=None) -> Self:
        """A new tensor of this dtype (or ``dtype``)."""
        return wrap(np.array(as_array(data, as_numpy_dtype(dtype or self.dtype))))

    def new_zeros(self, *size, dtype=None) -> Self:
        return wrap(np.zeros(sizes_of(size), as_numpy_dtype(dtype or self.dtype)))

    def new_ones(self, *size, dtype=None) -> Self:
        return wrap(np.ones(sizes_of(size), as_numpy_dtype(dtype or self.dtype)))

    def new_full(self, size, fill_value, dtype=None) -> Self:
        return wrap(np.full(size, fill_value, as_numpy_dtype(dtype or self.dtype)))

    def new_empty(self, *size, dtype=None) -> Self:
        return wrap(np.empty(sizes_of(size), as_numpy_dtype(dtype or self.dtype)))
