"""Checks of arguments that operations share, and the one text of each error: kernels get nothing unchecked.

The operation's name comes first, so that messages begin with what the user called.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from ..errors import DtypeError, LabelError, ShapeError
from ..kernels import geometry

LARGEST = 2**31 - 1  # kernels count in int64; sizes, strides and their products with these stay far below


def integer(name: str, argument: str, value, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``."""
    if type(value) is int and minimum <= value <= LARGEST:  # the usual case, seen early
        return value
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {argument} must be an integer, got {value!r}") from None
    if not minimum <= number <= LARGEST:
        raise ShapeError(f"{name}: {argument} must be at least {minimum} (and below 2**31), got {number}")
    return number


def pair(name: str, argument: str, value, minimum: int) -> tuple[int, int]:
    """(height, width) from an integer or a pair of integers, each at least ``minimum``."""
    if type(value) is tuple and len(value) == 2:  # the usual case, seen early
        height, width = value
        if type(height) is int and type(width) is int and minimum <= height <= LARGEST and minimum <= width <= LARGEST:
            return value
    given = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        height, width = [operator.index(number) for number in given]
    except (TypeError, ValueError) as error:
        wanted = f"{name}: {argument} must be an integer or a pair of integers, got {value!r}"
        raise (TypeError if isinstance(error, TypeError) else ShapeError)(wanted) from None
    if min(height, width) < minimum or max(height, width) > LARGEST:
        raise ShapeError(f"{name}: {argument} must be at least {minimum} (and below 2**31), got {value!r}")
    return height, width


def number(name: str, argument: str, value, low: float = -math.inf, high: float = math.inf) -> float:
    """``value`` as a float in [low, high], never NaN."""
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: {argument} must be a number, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: {argument} must be between {low:g} and {high:g}, got {value}")
    return float(value)


def floating(name: str, **arrays) -> None:
    """All of ``arrays`` (None where missing) are float32, or all are float64."""
    first = dtype = None
    for argument, array in arrays.items():
        if array is None:
            continue
        other = array.dtype
        if dtype is None:
            first, dtype = argument, other
            if dtype != np.float32 and dtype != np.float64:
                raise DtypeError(f"{name}: {first} must be float32 or float64, got {dtype}")
        elif other is not dtype and other != dtype:
            raise DtypeError(
                f"{name}: {first} is {dtype} but {argument} is {other}; "
                f"convert one of them, for example {argument}.to({first}.dtype)"
            )


def images(name: str, shape: tuple[int, ...], wanted: str = "(N, C, H, W) or (C, H, W)") -> None:
    """(N, C, H, W), where only N may be 0."""
    if len(shape) != 4:
        raise ShapeError(f"{name}: the input must be {wanted}, got shape {shape}")
    if 0 in shape[1:]:
        raise ShapeError(f"{name}: only the batch may be empty, got an input of shape {shape}")


def vector(name: str, argument: str, array, size: int) -> None:
    """``array`` is None or holds one value per channel."""
    if array is not None and array.shape != (size,):
        raise ShapeError(f"{name}: {argument} has shape {array.shape}, one value per channel is ({size},)")


def divides(name: str, groups: int, argument: str, count: int) -> None:
    """``count`` channels split into ``groups`` equal groups."""
    if count % groups:
        raise ShapeError(f"{name}: {groups} groups do not divide {argument} = {count}")


def window(name: str, size, kernel, stride, padding, dilation=(1, 1), ceil_mode=False) -> tuple[int, int]:
    """The output size of a sliding window; raises ShapeError, with the formula, if it fits nowhere."""
    height, width = geometry.pooling_output_size(size, kernel, stride, padding, dilation, ceil_mode)
    if min(height, width) < 1:
        _refuse_window(name, size, kernel, stride, padding, dilation, ceil_mode, 0 if height < 1 else 1)
    return height, width


def _refuse_window(name, size, kernel, stride, padding, dilation, ceil_mode, which):
    padded = by([s + 2 * p for s, p in zip(size, padding)])
    reach = dilation[which] * (kernel[which] - 1)
    room = size[which] + 2 * padding[which] - reach - 1
    limit = f"1 - stride = {1 - stride[which]}" if ceil_mode and stride[which] > 1 else "0"
    raise ShapeError(
        f"{name}: kernel {by(kernel)} does not fit the padded input {padded} "
        f"({'HW'[which]} + 2·padding - dilation·(kernel-1) - 1 = "
        f"{size[which]} + {2 * padding[which]} - {reach} - 1 = {room} < {limit})"
    )


def by(size) -> str:
    """(5, 7) as "5x7"."""
    return "x".join(str(number) for number in size)


def labels(name: str, target: np.ndarray, valid: np.ndarray, classes: int) -> None:
    """Class indices where ``valid`` lie in 0..classes-1; raises LabelError for the first that does not."""
    wrong = np.argwhere(valid & ((target < 0) | (target >= classes)))
    if not len(wrong):
        return
    place = tuple(wrong[0].tolist())
    where = f" in row {place[0]}" if place else ""
    where += f" at {place[1:]}" if len(place) > 1 else ""
    raise LabelError(f"{name}: label {target[place]}{where}, classes are 0..{classes - 1}")


def label_dtype(name: str, target: np.ndarray) -> None:
    """Class indices are int64 or uint8, as in torch."""
    if target.dtype not in (np.int64, np.uint8):
        raise DtypeError(f"{name}: labels must be int64 (or uint8), got {target.dtype}; use target.long()")


def same_shape(name: str, input: np.ndarray, target: np.ndarray) -> None:
    """A regression's input and target do not broadcast: (N, 1) against (N,) would compare all with all."""
    if input.shape != target.shape:
        raise ShapeError(f"{name}: the input has shape {input.shape} but the target has shape {target.shape}")


def reduction(name: str, value) -> None:
    if value not in ("none", "mean", "sum"):
        raise ValueError(f"{name}: reduction must be 'none', 'mean' or 'sum', got {value!r}")


def constant(name: str, argument: str, needs_grad: bool) -> None:
    """Refuses an argument that requires grad where there is no gradient for it."""
    if needs_grad:
        raise NotImplementedError(f"{name}: there is no gradient for {argument}; pass {argument}.detach()")
