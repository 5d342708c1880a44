"""`Parameter`: a tensor that a module registers when it is assigned to an attribute, and that optimizers train."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import factories
from ..tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that requires grad and registers itself in the module it is assigned to (torch.nn.Parameter).

    `data` (Tensor or array, any shape) is shared, not copied. Raises TypeError for other kinds of data, and for
    integers that are to require grad.
    """

    def __init__(self, data: Tensor | np.ndarray, requires_grad: bool = True) -> None:
        if not isinstance(data, (Tensor, np.ndarray)):
            raise TypeError(f"Parameter: expected a Tensor or an array as data, got {type(data).__name__}")
        super().__init__(data, requires_grad=requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        # as torch: values and requires_grad, not .grad
        memo[id(self)] = type(self)(self._array.copy(), self.requires_grad)
        return memo[id(self)]


def new_parameter(shape: tuple[int, ...], device: Any, dtype: Any) -> Parameter:
    """An uninitialized Parameter, of the default dtype unless one is given."""
    return Parameter(factories.empty(shape, device=device, dtype=dtype))
