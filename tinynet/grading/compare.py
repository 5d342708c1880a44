"""What hidden tests call: fresh inputs, and a comparison whose message says what is probably wrong."""

from __future__ import annotations

import os
import re
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinynet.autograd.gradcheck.causes import Evidence, likely_cause
from tinynet.autograd.gradcheck.inputs import first_index

SEED = "TINYNET_GRADING_SEED"  # set it to see the inputs of a grading again
RTOL = {4: 1e-4, 8: 1e-8}  # by the bytes of a real number
_AS_RESULT = (
    (r"^mean's gradient dropped: ", ""),
    (r"nothing reaches these elements: the gradient is zero there", "the result is zero there: nothing was written"),
    (r"the gradient", "the result"), (r"right gradient", "right result"), (r"gradient", "result"),
    (r"of the output\b", "of an input"), (r"of output (\d+)", r"of input \1"), (r"of the input\b", "of the result"),
)  # fmt: skip

_place: dict[str, Any] = {"seed": None, "test": "", "drawn": 0}


class Mismatch(AssertionError):
    """A result that is not the expected one; the text has a line each for case, expected, got and likely cause."""


def fresh_generator() -> np.random.Generator:
    """A NumPy generator of inputs that no submission has seen.

    Its entropy is chosen once per grading (`tinynet grade --seed`, or the variable TINYNET_GRADING_SEED, chooses it
    again), so all submissions get the same inputs. Each test, and each call in a test, draws its own.
    """
    if _place["seed"] is None:
        seed = os.environ.get(SEED, "")
        _place["seed"] = int(seed) if seed.isdecimal() else secrets.randbits(64)
    _place["drawn"] += 1
    return np.random.default_rng([_place["seed"], zlib.crc32(_place["test"].encode()), _place["drawn"]])


def begin_test(name: str, seed: int) -> None:
    """From here on `fresh_generator` draws for this test of a grading with this seed."""
    _place.update(seed=seed, test=name, drawn=0)


def compare(
    got: Any, expected: Any, case: str, *, rtol: float | None = None, dtype: Any = None,
    wrong: Mapping[str, Any] | None = None, inputs: Sequence[np.ndarray] = (), upstream: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Raises Mismatch (an AssertionError) unless `got` is what is `expected`: arrays, numbers, or nested ones.

    The largest difference may be `rtol` times the largest expected magnitude (default: 1e-4 where one of the two is
    float32, else 1e-8). `case` says in the message what was computed. `dtype`, if given, is demanded of arrays.

    For the likely cause: `wrong` maps the words of a mistake to the result it leads to (or to a function that
    computes it); `inputs` are arrays whose sizes a factor may come from; with `upstream`, the gradient from above,
    `got` is taken as the gradient of `inputs[0]`.
    """
    if isinstance(expected, Mapping):
        _need(isinstance(got, Mapping), case, "a dict", got)
        missing = [key for key in expected if key not in got]
        if missing:
            keys = ", ".join(got) or "none"
            raise Mismatch(f"case: {case}\nexpected: a dict with {', '.join(expected)}\ngot: {keys}")
        parts = [(got[key], expected[key], f"{case}, {key}", key) for key in expected]
    elif isinstance(expected, (tuple, list)):
        _need(isinstance(got, (tuple, list)) and len(got) == len(expected), case, f"{len(expected)} results", got)
        parts = [(got[i], expected[i], f"{case}, result {i}", i) for i in range(len(expected))]
    else:
        _compare_array(got, np.asarray(expected), case, rtol, dtype, _Hints(wrong, inputs, upstream))
        return
    for part, right, where, key in parts:
        words = {text: _computed(value)[key] for text, value in (wrong or {}).items()}
        compare(part, right, where, rtol=rtol, dtype=dtype, wrong=words, inputs=inputs)


class _Hints:
    """What may explain a wrong result."""

    def __init__(self, wrong: Mapping[str, Any] | None, inputs: Sequence[np.ndarray], upstream: Any) -> None:
        self.wrong = wrong or {}
        self.inputs = [np.asarray(array) for array in inputs]
        self.upstream = None if upstream is None else np.asarray(upstream)


def _need(holds: bool, case: str, what: str, got: Any) -> None:
    if not holds:
        raise Mismatch(f"case: {case}\nexpected: {what}\ngot: {_kind(got)}")


def _kind(value: Any) -> str:
    """A value's type and size, in words."""
    if type(value) is np.ndarray:
        return f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, (bool, int, float, np.generic, type(None))):
        return f"{value!r}"[:100] if value is not None else "None (is a return missing?)"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _compare_array(got: Any, expected: np.ndarray, case: str, rtol: float | None, dtype: Any, hints: _Hints) -> None:
    array = _as_array(got, expected, case)
    if dtype is not None and array.dtype != dtype:
        raise Mismatch(f"case: {case}\nexpected: dtype {np.dtype(dtype)}\ngot: dtype {array.dtype}")
    rtol = min_rtol(array, expected) if rtol is None else rtol
    difference, allowed = _difference(array, expected, rtol)
    differs = ~(difference <= allowed)
    if not differs.any():
        return
    cause = _known_mistake(array, hints.wrong, expected, rtol) or _diagnosis(array, expected, differs, allowed, hints)
    raise Mismatch(_message(array, expected, case, differs, difference, allowed, cause))


def min_rtol(got: np.ndarray, expected: np.ndarray) -> float:
    """The default tolerance: that of the less precise of the two."""
    sizes = [a.dtype.itemsize // (2 if a.dtype.kind == "c" else 1) for a in (got, expected) if a.dtype.kind in "fc"]
    return RTOL.get(min(sizes, default=8), 1e-2)


def _as_array(got: Any, expected: np.ndarray, case: str) -> np.ndarray:
    """The result as an array of the expected shape and kind of numbers. Raises Mismatch."""
    what = f"an array of shape {expected.shape}, {expected.dtype}" if expected.ndim else f"a number ({expected.dtype})"
    number = isinstance(got, np.generic) or type(got) in (bool, int, float, complex)
    _need(type(got) is np.ndarray or (number and expected.ndim == 0), case, what, got)
    array = np.asarray(got)
    _need(array.dtype.kind in "biufc" and (expected.ndim > 0 or array.ndim == 0), case, what, got)
    if array.shape != expected.shape:
        shapes = f"expected: shape {expected.shape}\ngot: shape {array.shape}"
        raise Mismatch(f"case: {case}\n{shapes}{_shape_hint(array, expected)}")
    both = {array.dtype.kind, expected.dtype.kind}
    _need(len(both) == 1 or both <= set("iu") or (expected.ndim == 0 and both <= set("iuf")), case, what, got)
    return array


def _shape_hint(got: np.ndarray, expected: np.ndarray) -> str:
    if sorted(got.shape) == sorted(expected.shape):
        return "\nlikely cause: the same sizes in another order: axes are exchanged"
    if got.size == expected.size:
        return "\nlikely cause: as many elements in another shape: a reshape is missing or another one"
    if got.ndim == expected.ndim:
        axes = [axis for axis in range(got.ndim) if got.shape[axis] != expected.shape[axis]]
        off = ", ".join(f"axis {a} has {got.shape[a]} instead of {expected.shape[a]}" for a in axes)
        return f"\nlikely cause: {off}"
    return ""


def _difference(got: np.ndarray, expected: np.ndarray, rtol: float) -> tuple[np.ndarray, float]:
    """Element by element (NaN equals NaN, infinity the same infinity), and what is allowed."""
    wide = np.complex128 if "c" in (got.dtype.kind, expected.dtype.kind) else np.float64
    a, b = got.astype(wide), expected.astype(wide)
    finite = np.abs(b[np.isfinite(b)])
    scale = float(finite.max(initial=0.0)) or 1.0
    exact = got.dtype.kind in "biu" and expected.dtype.kind in "biu"
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return difference, 0.0 if exact else rtol * scale


def _known_mistake(got: np.ndarray, wrong: Mapping[str, Any], expected: np.ndarray, rtol: float) -> str:
    """The words of the named mistake that leads to this very result."""
    for words, value in wrong.items():
        result = np.asarray(_computed(value))
        if result.shape == got.shape and result.dtype.kind in "biufc":
            difference, allowed = _difference(got, result, rtol)
            if (difference <= max(allowed, rtol)).all():
                return words
    return ""


def _computed(value: Any) -> Any:
    return value() if isinstance(value, Callable) else value  # type: ignore[arg-type]


def _diagnosis(got: np.ndarray, expected: np.ndarray, differs: np.ndarray, allowed: float, hints: _Hints) -> str:
    """The gradient checker's diagnosis, said of any result."""
    if not np.isfinite(got).all():
        return _not_finite(got, expected)
    if got.dtype.kind != "f" or not np.isfinite(expected).all():
        return ""
    if not got.any():
        return "the result is zero everywhere: nothing was written into it"
    a, b = got.astype(np.float64), expected.astype(np.float64)
    if not b.any():
        return "zero is expected everywhere here"
    gradient = hints.upstream is not None
    value = hints.inputs[0] if gradient and hints.inputs and hints.inputs[0].shape == b.shape else np.zeros(b.shape)
    evidence = Evidence(
        analytic=a[None], numeric=b[None], noise=allowed, wrong=differs, value=value.astype(np.float64),
        outputs=hints.inputs if hints.upstream is None else [hints.upstream],
        cotangents=[] if hints.upstream is None else [hints.upstream[None]], jacobians=None,
    )  # fmt: skip
    cause = likely_cause(evidence)
    if not gradient:
        for pattern, words in _AS_RESULT:
            cause = re.sub(pattern, words, cause)
    return cause


def _not_finite(got: np.ndarray, expected: np.ndarray) -> str:
    bad = ~np.isfinite(got) & np.isfinite(expected)
    if not bad.any():
        return ""
    index = first_index(bad)
    name = "NaN" if np.isnan(got[index]) else "infinite"
    return (
        f"{int(bad.sum()):,} elements are NaN or infinite, the first ({name}) at index {index}: a division by zero, "
        "the logarithm or root of a negative number, an overflow, or memory that was never written (np.empty)"
    )


def _message(got, expected, case, differs, difference, allowed, cause) -> str:  # type: ignore[no-untyped-def]
    index = first_index(differs)
    at = f" at index {index}" if expected.ndim else ""
    lines = [f"case: {case}", f"expected: {_number(expected[index])}{at}", f"got: {_number(got[index])}{at}"]
    finite = difference[np.isfinite(difference)]
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)) if expected.size else 0.0
    if expected.ndim and finite.size:
        largest = float(finite.max())
        relative = f", {largest / scale:.2g} times the largest expected magnitude {scale:.3g}" if scale else ""
        lines.append(
            f"differs: {int(differs.sum()):,} of {differs.size:,} elements (shape {expected.shape}), by up to "
            f"{largest:.2g}{relative} (allowed: {allowed:.1g}); the first is shown"
        )
    return "\n".join(lines + ([f"likely cause: {cause}"] if cause else []))


def _number(value: Any) -> str:
    return f"{value:.6g}" if np.asarray(value).dtype.kind in "fc" else f"{value}"
