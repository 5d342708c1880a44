"""torch's dtypes and its promotion rules, over NumPy's.

NumPy and torch disagree where integers meet floats (``float32 + int64`` is float64 in NumPy, float32 in
torch) and where scalars meet arrays, so promotion is written here once and every operation uses it.
Source: torch.promote_types, torch.result_type.
"""

from __future__ import annotations

import builtins

import numpy as np

from .errors import DtypeError


class dtype:
    """One of tinynet's dtypes. NumPy accepts it wherever it takes a dtype: ``np.zeros(3, tinynet.float32)``."""

    __slots__ = ("dtype", "is_floating_point", "itemsize", "name")

    def __init__(self, name: str):
        self.name = name
        self.dtype = np.dtype(name)  # np.dtype(self) reads this attribute
        self.is_floating_point = self.dtype.kind == "f"
        self.itemsize = self.dtype.itemsize

    @property
    def is_complex(self) -> builtins.bool:
        return False

    @property
    def is_signed(self) -> builtins.bool:
        return self.dtype.kind in "if"

    def __repr__(self) -> str:
        return f"tinynet.{self.name}"

    def __reduce__(self):
        return as_dtype, (self.name,)

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, dtype):
            return self is other
        try:
            return self.dtype == np.dtype(other)  # type: ignore[call-overload]
        except TypeError:
            return NotImplemented

    def __hash__(self) -> builtins.int:
        return hash(self.dtype)


float16 = half = dtype("float16")
float32 = float = dtype("float32")
float64 = double = dtype("float64")
uint8 = dtype("uint8")
int8 = dtype("int8")
int16 = short = dtype("int16")
int32 = int = dtype("int32")
int64 = long = dtype("int64")
bool = dtype("bool")

_BY_NUMPY = {d.dtype: d for d in (float16, float32, float64, uint8, int8, int16, int32, int64, bool)}
_SCALAR_DTYPES = {"b": np.dtype(np.bool_), "i": np.dtype(np.int64), "u": np.dtype(np.int64)}
_default = np.dtype(np.float32)


def as_dtype(value) -> dtype:
    """The tinynet dtype of a dtype, a NumPy dtype, a Python type or a name. Raises DtypeError if there is none."""
    if isinstance(value, dtype):
        return value
    try:
        return _BY_NUMPY[np.dtype(value)]
    except (KeyError, TypeError):
        names = ", ".join(d.name for d in _BY_NUMPY.values())
        raise DtypeError(f"dtype {value!r} is not supported; tinynet has {names}") from None


def as_numpy_dtype(value) -> np.dtype:
    """The NumPy dtype of anything :func:`as_dtype` takes."""
    return as_dtype(value).dtype


def get_default_dtype() -> dtype:
    """The dtype of floating tensors made from Python numbers: float32 unless changed."""
    return _BY_NUMPY[_default]


def set_default_dtype(value) -> None:
    """Sets the dtype of floating tensors made from Python numbers (a floating dtype)."""
    global _default
    chosen = as_dtype(value)
    if not chosen.is_floating_point:
        raise DtypeError(f"set_default_dtype takes a floating dtype, got {chosen}")
    _default = chosen.dtype


def default_numpy_dtype() -> np.dtype:
    return _default


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """torch.promote_types over NumPy dtypes: a float beside an integer keeps the float's width."""
    if a is b or a == b:
        return a
    if a.kind == "f" and b.kind != "f":
        return a
    if b.kind == "f" and a.kind != "f":
        return b
    return np.promote_types(a, b)


def promote_types(a, b) -> dtype:
    """torch.promote_types."""
    return _BY_NUMPY[promote(as_numpy_dtype(a), as_numpy_dtype(b))]


_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}


def scalar_dtype(value) -> np.dtype:
    """The dtype that a Python or NumPy scalar would have as a tensor of its own."""
    if isinstance(value, (np.bool_, builtins.bool)):
        return _SCALAR_DTYPES["b"]
    if isinstance(value, (np.integer, builtins.int)):
        return _SCALAR_DTYPES["i"]
    if isinstance(value, (np.floating, builtins.float)):
        return _default
    raise DtypeError(f"expected a real number, got {type(value).__name__}")


def with_scalar(array_dtype: np.dtype, value) -> np.dtype:
    """The dtype of ``array op scalar``: a scalar changes the dtype only if its category is higher.

    bool < integer < floating: an integer tensor times 0.5 is of the default floating dtype, a float32
    tensor times ``np.float64(0.5)`` stays float32.
    """
    own = scalar_dtype(value)
    return own if _CATEGORY[own.kind] > _CATEGORY[array_dtype.kind] else array_dtype


def can_keep(kept: np.dtype, result: np.dtype) -> builtins.bool:
    """Whether a result may be written into a tensor of dtype ``kept``: its category must not be higher."""
    return _CATEGORY[result.kind] <= _CATEGORY[kept.kind]


def of_arrays(a: np.ndarray, b: np.ndarray) -> np.dtype:
    """The dtype of ``a op b``: a 0-d array yields to a dimensioned one of the same category, as in torch."""
    first, second = a.dtype, b.dtype
    if first is second:
        return first
    if (a.ndim == 0) != (b.ndim == 0):
        dimensioned, zero_dim = (second, first) if a.ndim == 0 else (first, second)
        if _CATEGORY[zero_dim.kind] <= _CATEGORY[dimensioned.kind]:
            return dimensioned
        return zero_dim
    return promote(first, second)
