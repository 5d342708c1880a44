"""Comparing an answer with what is right, in words for whoever wrote the answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import Tensor


def relative_error(actual: Any, expected: Any) -> float:
    """The largest difference divided by the largest expected magnitude: max |a - e| / max |e|.

    Takes numbers, arrays and tensors. NaN in `actual` gives infinity. If all that is expected is 0, the
    largest difference itself.

    Raises:
        AssertionError: `actual` is None or `...`, holds no numbers, or has another shape than `expected`.
    """
    if actual is None or actual is ...:
        raise AssertionError(f"the result is {actual!r}: is there a return?")
    wanted = _array(expected)
    try:
        given = _array(actual).astype(np.float64)
    except (TypeError, ValueError):
        raise AssertionError(f"the result is a {type(actual).__name__}, numbers are expected") from None
    if given.shape != wanted.shape:
        raise AssertionError(f"the result has shape {given.shape}, expected is {wanted.shape}")
    if given.size == 0:
        return 0.0
    difference = float(np.abs(given - wanted).max())
    scale = float(np.abs(wanted).max())
    return float("inf") if np.isnan(difference) else difference / (scale or 1.0)


def _array(values: Any) -> np.ndarray:
    return values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
