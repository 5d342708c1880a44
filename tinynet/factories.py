"""Making tensors: from data, from a rule, from chance. torch's names and defaults."""

from __future__ import annotations

import math

import numpy as np

from . import dtypes, streams
from .dtypes import as_numpy_dtype
from .errors import DtypeError, ShapeError
from .tensor import Tensor, as_array, as_tensor, derived, sizes_of, wrap
from .tensor import device as check_device


def _finish(values: np.ndarray | Tensor, requires_grad: bool, device=None) -> Tensor:
    if device is not None:
        check_device(device)
    made = wrap(values) if isinstance(values, np.ndarray) else values
    return made.requires_grad_() if requires_grad else made


def _dtype(dtype) -> np.dtype:
    return dtypes.default_numpy_dtype() if dtype is None else as_numpy_dtype(dtype)


def _checked(name: str, size) -> tuple[int, ...]:
    sizes = sizes_of(size)
    if any(length < 0 for length in sizes):
        raise ShapeError(f"{name}: sizes must not be negative, got {list(sizes)}")
    return sizes


def tensor(data, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``; Python floats become the default dtype, integers int64."""
    copied = np.array(as_array(data, None if dtype is None else as_numpy_dtype(dtype)), order="C")
    return _finish(copied, requires_grad, device)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares an array's memory."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(ndarray).__name__}")
    return wrap(as_array(ndarray))


def zeros(*size, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    return _finish(np.zeros(_checked("zeros", size), _dtype(dtype)), requires_grad, device)


def ones(*size, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    return _finish(np.ones(_checked("ones", size), _dtype(dtype)), requires_grad, device)


def empty(*size, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Memory that holds whatever it held."""
    return _finish(np.empty(_checked("empty", size), _dtype(dtype)), requires_grad, device)


def full(size, fill_value, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """One value everywhere, of the value's own dtype unless ``dtype`` is given."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    chosen = dtypes.scalar_dtype(fill_value) if dtype is None else as_numpy_dtype(dtype)
    return _finish(np.full(_checked("full", (size,)), fill_value, chosen), requires_grad, device)


def arange(start, end=None, step=1, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below ``end``; int64 if all three are integers."""
    start, end = (0, start) if end is None else (start, end)
    numbers = [value.item() if isinstance(value, Tensor) else value for value in (start, end, step)]
    if dtype is None:
        whole = all(isinstance(value, (int, np.integer)) for value in numbers)
        dtype = dtypes.int64 if whole else dtypes.get_default_dtype()
    first, last, by = numbers
    if by == 0:
        raise ShapeError("arange: step must not be 0")
    if (last - first) * by < 0:
        raise ShapeError(f"arange: from {first} to {last} there is no way in steps of {by}")
    count = math.ceil((last - first) / by)
    return _finish((first + by * np.arange(count)).astype(as_numpy_dtype(dtype)), requires_grad, device)


def linspace(start, end, steps: int, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included."""
    return _finish(np.linspace(start, end, int(steps)).astype(_dtype(dtype)), requires_grad, device)


def eye(n: int, m: int | None = None, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal."""
    return _finish(np.eye(n, m, dtype=_dtype(dtype)), requires_grad, device)


def _floating_dtype(name: str, dtype) -> np.dtype:
    chosen = _dtype(dtype)
    if chosen.kind != "f":
        raise DtypeError(f"{name}: draws floating numbers, not {chosen.name}")
    return chosen


def randn(*size, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Draws from N(0, 1)."""
    drawn = streams.normal(_checked("randn", size), _floating_dtype("randn", dtype), generator)
    return _finish(drawn, requires_grad, device)


def rand(*size, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Draws from [0, 1)."""
    drawn = streams.uniform(_checked("rand", size), _floating_dtype("rand", dtype), generator)
    return _finish(drawn, requires_grad, device)


def randint(low, high=None, size=None, *, generator=None, dtype=None, device=None) -> Tensor:
    """Integers from ``low`` (0 if left out) up to, not including, ``high``: randint(10, (3,)), randint(1, 7, (3,))."""
    if size is None:
        low, high, size = 0, low, high
    if high <= low:
        raise ShapeError(f"randint: low {low} must be below high {high}")
    stream = (generator or streams.default).numpy
    drawn = stream.integers(low, high, _checked("randint", (size,)))
    return _finish(np.asarray(drawn, dtypes.int64.dtype if dtype is None else as_numpy_dtype(dtype)), False, device)


def randperm(n: int, *, generator=None, dtype=None, device=None) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    stream = (generator or streams.default).numpy
    drawn = stream.permutation(int(n))
    return _finish(drawn.astype(dtypes.int64.dtype if dtype is None else as_numpy_dtype(dtype)), False, device)


def normal(mean=0.0, std=1.0, size=None, *, generator=None) -> Tensor:
    """Draws from N(mean, std²)."""
    if size is None:
        size = np.broadcast_shapes(np.shape(mean), np.shape(std))
    return randn(size, generator=generator) * std + mean


def bernoulli(input: Tensor, *, generator=None) -> Tensor:
    """One with the probability that ``input`` holds, else zero."""
    drawn = streams.uniform(tuple(input.shape), np.dtype(np.float64), generator)
    return derived((drawn < input._array).astype(input._array.dtype), input)


def _like(input: Tensor, dtype):
    return input.dtype if dtype is None else dtype


def zeros_like(input: Tensor, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    return full_like(input, 1, dtype=dtype, device=device, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    made = np.empty_like(input._array, as_numpy_dtype(_like(input, dtype)))
    return _finish(derived(made, input), requires_grad, device)


def full_like(input: Tensor, fill_value, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """One value everywhere; the memory has the order of ``input``'s."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    made = np.full_like(input._array, fill_value, as_numpy_dtype(_like(input, dtype)))
    return _finish(derived(made, input), requires_grad, device)


def randn_like(input: Tensor, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    return randn(input.shape, dtype=_like(input, dtype), device=device, requires_grad=requires_grad)


def rand_like(input: Tensor, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    return rand(input.shape, dtype=_like(input, dtype), device=device, requires_grad=requires_grad)


def randint_like(input: Tensor, low, high=None, *, dtype=None) -> Tensor:
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.shape, dtype=_like(input, dtype))


__all__ = [
    "arange",
    "as_tensor",
    "bernoulli",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "normal",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "tensor",
    "zeros",
    "zeros_like",
]
