"""The fields that put an array on the tape, and the ways from data to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..dtypes import as_dtype, as_numpy_dtype
from ..errors import DtypeError, ShapeError
from ..tape import VersionCounter
from .layout import exposed, hide_layout

SCALARS = (int, float, np.number, np.bool_)


class Variable:
    """What the tape reads and writes. ``Tensor`` adds torch's methods, which this folder keeps by subject."""

    _array: np.ndarray
    _version_counter: VersionCounter
    _node: Any = None  # who made it
    _index = 0  # which of that node's outputs it is
    _leaf: Any = None  # where its gradient ends, for a leaf
    _requires_grad = False
    _grad: Any = None
    _seen_rebase = 0  # see tape.check_current
    _retains_grad = False
    _hidden = False  # whether the memory is permuted, which nobody may see: read layout.py

    if TYPE_CHECKING:  # the methods of one subject use those of the others

        def __getattr__(self, name: str) -> Any: ...


_result_class: Any = Variable  # Tensor, once core.py has defined it


def results_are(cls: type) -> None:
    """Makes ``cls`` the class of every result (Tensor; a Parameter's results are Tensors too)."""
    global _result_class
    _result_class = cls


def as_array(data, dtype: np.dtype | None = None) -> np.ndarray:
    """The array of a Tensor, an ndarray (as it is), or nested numbers, in ``dtype`` if it is given.

    Python floats get the default dtype otherwise.
    """
    array = _as_array(data, keep_float64=dtype is not None)
    return array if dtype is None else array.astype(dtype, copy=False)


def _as_array(data, keep_float64: bool) -> np.ndarray:
    if isinstance(data, Variable):
        return exposed(data)
    if isinstance(data, np.ndarray):
        as_dtype(data.dtype)
        return data.astype(data.dtype.newbyteorder("=")) if not data.dtype.isnative else data
    if isinstance(data, np.generic):
        return np.asarray(data)
    if isinstance(data, (list, tuple)) and _holds_tensors(data):
        data = [_as_array(item, True) for item in data]
    try:
        array = np.array(data)
    except ValueError as error:
        raise ShapeError(f"tensor: the nested lists are not rectangular ({error})") from None
    if array.dtype.kind not in "biuf":
        raise DtypeError(f"tensor: expected numbers, got {type(data).__name__} of dtype {array.dtype}")
    if array.dtype == np.float64 and not keep_float64 and not _holds_arrays(data):
        return array.astype(dtypes.default_numpy_dtype())
    return array


def _holds_tensors(data) -> bool:
    return any(isinstance(item, Variable) for item in data) or any(
        isinstance(item, (list, tuple)) and _holds_tensors(item) for item in data
    )


def _holds_arrays(data) -> bool:
    return isinstance(data, (list, tuple)) and any(
        isinstance(item, (np.ndarray, np.generic)) or _holds_arrays(item) for item in data
    )


def as_tensor(data, dtype=None) -> Any:
    """A Tensor over ``data``, sharing memory where possible. Source: torch.as_tensor."""
    if isinstance(data, Variable):
        return data if dtype is None else data.to(dtype)
    return wrap(as_array(data, None if dtype is None else as_numpy_dtype(dtype)))


def wrap(array) -> Any:
    """A constant Tensor over an array, without any check."""
    tensor = _new(_result_class)
    tensor._array = array if type(array) is np.ndarray else np.asarray(array)
    tensor._version_counter = VersionCounter()
    return tensor


_new: Any = object.__new__


def derived(array, *sources: Variable) -> Any:
    """A constant Tensor over an array that was computed from the Tensors ``sources``."""
    tensor = wrap(array)
    if tensor._array.ndim > 1:
        hide_layout(tensor, sources)
    return tensor


def seen_gradient(array: np.ndarray) -> Any:
    """A gradient of the tape as a Tensor for the user's eyes; an expanded one stays what it is."""
    return derived(array) if array.flags.writeable else wrap(array)
