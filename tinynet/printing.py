"""How tensors are printed: torch's format, four digits, long ones summarised."""

from __future__ import annotations

import math

import numpy as np

_options = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80}


def set_printoptions(*, precision=None, threshold=None, edgeitems=None, linewidth=None) -> None:
    """Digits after the point, elements before summarising, elements kept at each end, characters a line."""
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({key: int(value) for key, value in given.items() if value is not None})


def tensor_text(array: np.ndarray, default_dtype: np.dtype, prefix: str = "tensor(", suffixes=()) -> str:
    """``tensor([1., 2.], requires_grad=True)`` and the like."""
    suffixes = list(suffixes)
    if array.size == 0:
        body = "[]"
        if array.ndim != 1:
            suffixes.insert(0, f"size={tuple(array.shape)}")
    else:
        body = _body(array, len(prefix))
    plain = array.dtype == default_dtype or (array.dtype in (np.int64, np.bool_) and array.size > 0)
    if not plain:
        suffixes.insert(0, f"dtype=tinynet.{array.dtype.name}")
    text = prefix + body
    line = len(text) - text.rfind("\n") - 1
    for suffix in suffixes:
        if line + len(suffix) + 2 > _options["linewidth"]:
            text += ",\n" + " " * len(prefix) + suffix
            line = len(prefix) + len(suffix)
        else:
            text += ", " + suffix
            line += len(suffix) + 2
    return text + ")"


def _body(array: np.ndarray, indent: int) -> str:
    edge = _options["edgeitems"]
    summarize = array.size > _options["threshold"]
    shown = _corners(array, edge) if summarize else array
    formatter = _formatter(shown)
    return _block(array, formatter, indent, summarize, edge)


def _corners(array: np.ndarray, edge: int) -> np.ndarray:
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            array = np.take(array, [*range(edge), *range(size - edge, size)], axis)
    return array


def _formatter(shown: np.ndarray):
    if shown.dtype.kind == "b":
        width = max(len(str(bool(value))) for value in shown.ravel())
        return lambda value: str(bool(value)).rjust(width)
    if shown.dtype.kind in "iu":
        width = max(len(str(int(value))) for value in shown.ravel())
        return lambda value: str(int(value)).rjust(width)
    finite = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
    text = _float_text(np.abs(finite))
    width = max((len(text(float(value))) for value in finite.ravel()), default=0)
    return lambda value: text(float(value)).rjust(width)


def _float_text(magnitudes: np.ndarray):
    """One format for all: integers as ``1.``, else fixed point, else scientific if the range is wide."""
    digits = _options["precision"]
    if magnitudes.size == 0:
        return lambda value: f"{value:.0f}." if math.isfinite(value) else str(value)
    smallest, largest = magnitudes.min(), magnitudes.max()
    integers = bool((magnitudes == np.ceil(magnitudes)).all())
    wide = largest / smallest > 1000.0 or largest > 1e8
    if (integers and wide) or (not integers and (wide or smallest < 1e-4)):
        if integers and largest <= 1e8:
            return lambda value: f"{value:.0f}." if math.isfinite(value) else str(value)
        return lambda value: f"{value:.{digits}e}"
    if integers:
        return lambda value: f"{value:.0f}." if math.isfinite(value) else str(value)
    return lambda value: f"{value:.{digits}f}"


def _block(array: np.ndarray, formatter, indent: int, summarize: bool, edge: int) -> str:
    if array.ndim == 0:
        return formatter(array[()]).strip()
    cut = summarize and array.shape[0] > 2 * edge
    if array.ndim == 1:
        return _row(array, formatter, indent, cut, edge)
    inner = [*array[:edge], None, *array[-edge:]] if cut else list(array)
    blocks = ["..." if item is None else _block(item, formatter, indent + 1, summarize, edge) for item in inner]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(blocks) + "]"


def _row(array: np.ndarray, formatter, indent: int, cut: bool, edge: int) -> str:
    values = [*array[:edge], None, *array[-edge:]] if cut else list(array)
    words = [" ..." if value is None else formatter(value) for value in values]
    width = max(len(word) for word in words) + 2
    per_line = max(1, (_options["linewidth"] - indent) // width)
    lines = [", ".join(words[start : start + per_line]) for start in range(0, len(words), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
