"""Turns what stands between the brackets of ``x[...]`` into a NumPy key, checked and explained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Key(NamedTuple):
    """Two steps, as torch takes them: first the view by ``basic``, then ``advanced`` (or None) on that view.

    (NumPy would count an integer beside an array as an array too, and move its axis to the front.)
    """

    basic: tuple
    advanced: tuple | None

    def read(self, x: np.ndarray) -> np.ndarray:
        view = x[self.basic]
        return view if self.advanced is None else view[self.advanced]

    def write(self, x: np.ndarray, value) -> None:
        x[self.basic][... if self.advanced is None else self.advanced] = value

    def add(self, x: np.ndarray, value: np.ndarray) -> None:
        """Adds ``value`` to a zero array; an element named twice gets both."""
        if self.picks_twice:
            np.add.at(x[self.basic], self.advanced, value)  # type: ignore[arg-type]
        else:
            self.write(x, value)

    @property
    def picks_twice(self) -> bool:
        """Whether an element may be named more than once: integer arrays can, masks and slices cannot."""
        return any(isinstance(part, np.ndarray) and part.dtype != np.bool_ for part in self.advanced or ())


def to_key(key, shape: tuple[int, ...]) -> Key:
    """What stands between the brackets, checked against an array of ``shape``.

    Takes integers, slices with a positive step, None, Ellipsis, lists, integer and boolean arrays or tensors.
    Raises IndexError with the sizes otherwise.
    """
    parts = key if isinstance(key, tuple) else (key,)
    resolved = tuple(_to_part(part) for part in parts)
    _check_fits(resolved, shape)
    return _two_steps(resolved, len(shape))


def _two_steps(parts: tuple, ndim: int) -> Key:
    if not any(isinstance(part, np.ndarray) for part in parts):
        return Key(parts if Ellipsis in parts else (*parts, Ellipsis), None)
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    basic: list = []
    advanced: list = []
    for part in parts:
        if part is Ellipsis:
            missing = ndim - sum(_axes_of(other) for other in parts)
            basic += [slice(None)] * missing
            advanced += [slice(None)] * missing
        elif isinstance(part, np.ndarray):
            basic += [slice(None)] * _axes_of(part)
            advanced.append(part)
        else:
            basic.append(part)
            if not isinstance(part, int):
                advanced.append(slice(None))
    return Key((*basic, Ellipsis), tuple(advanced))


def _axes_of(part) -> int:
    """How many of the array's axes a part of the key answers for."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1


def _to_part(part):
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        if part.step is not None and part.step <= 0:
            raise ValueError(f"getitem: a slice's step must be greater than zero, got {part.step}; use flip")
        return part
    array = getattr(part, "_array", part)  # a Tensor's array
    if isinstance(array, (bool, np.bool_)):
        return np.asarray(array)
    if isinstance(array, (int, np.integer)):
        return int(array)
    if isinstance(array, (list, range)):
        array = np.asarray([getattr(item, "_array", item) for item in array])
        if array.size == 0:
            array = array.astype(np.int64)
    if not isinstance(array, np.ndarray):
        raise IndexError(
            f"getitem: an index must be an integer, a slice, None, ..., or an integer or boolean tensor; "
            f"got {type(part).__name__}"
        )
    if array.dtype.kind == "b":
        return array.copy()  # backward needs it as it is now
    if array.dtype.kind not in "iu":
        raise IndexError(f"getitem: an index tensor must be integer or boolean, got {array.dtype.name}")
    return int(array) if array.ndim == 0 else array.copy()


def _check_fits(key: tuple, shape: tuple[int, ...]) -> None:
    used = sum(_axes_of(part) for part in key)
    if used > len(shape):
        raise IndexError(f"getitem: {used} indices for a tensor of {len(shape)} dimensions, shape {list(shape)}")
    if sum(part is Ellipsis for part in key) > 1:
        raise IndexError("getitem: an index can hold only one ellipsis")
    axis = 0
    for part in key:
        if part is None:
            continue
        if part is Ellipsis:
            axis += len(shape) - used
            continue
        _check_axis(part, axis, shape)
        axis += _axes_of(part)


def _check_axis(part, axis: int, shape) -> None:
    if isinstance(part, int) and not -shape[axis] <= part < shape[axis]:
        raise IndexError(f"getitem: index {part} is out of range for dimension {axis} of size {shape[axis]}")
    if not isinstance(part, np.ndarray):
        return
    if part.dtype.kind == "b":
        if part.shape != shape[axis : axis + part.ndim]:
            raise IndexError(
                f"getitem: a mask of shape {list(part.shape)} does not fit {list(shape)} at dimension {axis}"
            )
    elif part.size and (part.min() < -shape[axis] or part.max() >= shape[axis]):
        wrong = part.max() if part.max() >= shape[axis] else part.min()
        raise IndexError(f"getitem: index {int(wrong)} is out of range for dimension {axis} of size {shape[axis]}")
