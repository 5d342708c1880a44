"""How tests decide that two results are equal: dtype, shape, values relative to the tensor's own scale."""

from __future__ import annotations

from typing import Any

import numpy as np

# The largest error allowed, as a fraction of the expected tensor's largest magnitude.
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
# Below this a tensor counts as zero: sums that cancel exactly on paper leave rounding behind.
ZERO = {"float32": 1e-6, "float64": 1e-14}


def to_numpy(value: Any) -> np.ndarray:
    """The values of a tensor (torch's or tinynet's), array or Python number."""
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    return np.asarray(value)


def describe(array: np.ndarray) -> str:
    return f"{array.dtype} {tuple(array.shape)}"


def relative_error(actual: np.ndarray, expected: np.ndarray, zero: float = 0.0) -> float:
    """Largest |actual - expected| over the largest finite |expected| (at least `zero`).

    NaN and infinities must be at the same places with the same sign, otherwise the error is infinite.
    """
    if actual.size == 0:
        return 0.0
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True):
        return np.inf
    if not np.isfinite(actual[finite]).all():
        return np.inf
    error = np.abs(actual[finite] - expected[finite]).max(initial=0.0)
    scale = max(np.abs(expected[finite]).max(initial=0.0), zero)
    if error == 0:
        return 0.0
    return float(error / scale) if scale > 0 else np.inf


def mismatch(actual: Any, expected: Any, tolerance: float | None = None) -> str | None:
    """None where both agree, else one line that says how they differ."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"got {describe(actual)}, expected {describe(expected)}"
    if expected.dtype.kind != "f":
        differing = int(np.sum(actual != expected))
        return f"{differing} of {expected.size} values differ" if differing else None
    name = expected.dtype.name
    allowed = TOLERANCE[name] if tolerance is None else tolerance
    error = relative_error(actual, expected, ZERO[name])
    if error <= allowed:
        return None
    numbers = f"relative error {error:.2e}, allowed {allowed:.0e}"
    return f"{describe(expected)}: {numbers}\n{actual}\nexpected\n{expected}"


def assert_close(actual: Any, expected: Any, what: str = "value", tolerance: float | None = None) -> None:
    """Fails unless dtype and shape are equal and values within `tolerance` × the largest magnitude."""
    message = mismatch(actual, expected, tolerance)
    assert message is None, f"{what}: {message}"


def assert_same_results(actual: dict[str, Any], expected: dict[str, Any], tolerance: float | None = None) -> None:
    """Compares named results (outputs and gradients) and reports every one that differs."""
    assert actual.keys() == expected.keys(), f"got {sorted(actual)}, expected {sorted(expected)}"
    messages = {name: mismatch(actual[name], expected[name], tolerance) for name in expected}
    wrong = [f"{name}: {message}" for name, message in messages.items() if message is not None]
    assert not wrong, "\n".join(wrong)
