"""What a wrong gradient looks like, and so what was probably forgotten.

Each pattern takes the evidence and returns its sentence, or "" if it does not explain the error. An
explanation must account for 98 % of the largest difference under every random upstream gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .inputs import broadcast_axes, plain_index

UNEXPLAINED = 0.02


@dataclass(frozen=True)
class Evidence:
    """One input's gradient under a few random upstream gradients, and the Jacobians where they are small.

    ``analytic`` and ``numeric`` are (cotangents, *shape), ``wrong`` is (*shape), ``cotangents`` holds
    (cotangents, *output shape) per output, ``jacobians`` the analytic and the numeric (size, outputs).
    """

    analytic: np.ndarray
    numeric: np.ndarray
    noise: float
    wrong: np.ndarray
    value: np.ndarray
    outputs: Sequence[np.ndarray]
    cotangents: Sequence[np.ndarray]
    jacobians: tuple[np.ndarray, np.ndarray] | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def explains(self, corrected: np.ndarray, instead_of: np.ndarray | None = None) -> bool:
        """Whether ``corrected`` is the numeric gradient up to a small part of the analytic one's error."""
        target = self.numeric if instead_of is None else instead_of
        error = np.abs(self.analytic - self.numeric).max()
        return bool(np.abs(corrected - target).max() <= UNEXPLAINED * error + min(self.noise, 0.1 * error))

    def same_shaped(self, arrays: Sequence[np.ndarray], cotangents: bool = False) -> list[np.ndarray]:
        """Those of the outputs (or of their cotangents) that have the input's shape."""
        return [array for array in arrays if array.shape[cotangents:] == self.shape]

    @cached_property
    def there(self) -> Evidence:
        """The same over the wrong elements alone, in a row."""
        chosen = self.wrong
        return Evidence(
            self.analytic[:, chosen], self.numeric[:, chosen], self.noise, np.ones(int(chosen.sum()), bool),
            self.value[chosen], self.outputs, self.cotangents, None,
        )


def likely_cause(evidence: Evidence) -> str:
    """The likely cause of a wrong gradient, and where it sits if only some elements are wrong."""
    for pattern in PATTERNS:
        if text := pattern(evidence):
            return text + _where(evidence.wrong)
    return "wrong values in no simple pattern" + _similarity(evidence) + _where(evidence.wrong)


def swapped(place: int, evidence: Sequence[Evidence], names: Sequence[str]) -> str:
    """Says so if this input was given the gradient of another."""
    own = evidence[place]
    for other, theirs in enumerate(evidence):
        if other == place or theirs.shape != own.shape or own.explains(theirs.numeric):
            continue
        if own.explains(own.analytic, instead_of=theirs.numeric):
            both = theirs.explains(theirs.analytic, instead_of=own.numeric)
            swap = "the two are swapped" if both else "it went to the wrong input"
            return f"this is the gradient of {names[other]}: {swap}"
    return ""


# Patterns over the whole gradient


def _nothing_reaches(evidence: Evidence) -> str:
    if np.abs(evidence.analytic).max() == 0 and np.abs(evidence.numeric).max() > evidence.noise:
        return "nothing reaches this input: its gradient is zero, though the values depend on it"
    return ""


def _no_dependence(evidence: Evidence) -> str:
    if np.abs(evidence.numeric).max() <= evidence.noise:
        return (
            "backward returns a gradient, but the values do not change with this input when it moves a little "
            "(numeric gradient zero): rounding, a comparison, or something computed in float32?"
        )
    return ""


def _transposed(evidence: Evidence) -> str:
    for axes in itertools.permutations(range(len(evidence.shape))):
        if axes == tuple(sorted(axes)) or len(axes) > 5:
            continue
        moved = tuple(evidence.shape[axis] for axis in axes)
        order = (0, *(axis + 1 for axis in axes))
        if moved == evidence.shape and evidence.explains(evidence.analytic.transpose(order)):
            return f"transposed: the right gradient is this one with its axes permuted to {axes}"
        back = (0, *(int(axis) + 1 for axis in np.argsort(axes)))
        reshaped = evidence.analytic.reshape(-1, *moved).transpose(back)
        if evidence.explains(reshaped):
            return f"transposed: a reshape stands where axes should be permuted ({axes})"
    for axis, size in enumerate(evidence.shape):
        if size > 1 and evidence.explains(np.flip(evidence.analytic, axis + 1)):
            return f"flipped: the right gradient is this one reversed along axis {axis}"
    return ""


def _shifted(evidence: Evidence) -> str:
    """The right values, a step or two aside (the overlap is compared)."""
    error = np.abs(evidence.analytic - evidence.numeric).max()
    for axis, size in enumerate(evidence.shape):
        for by in (1, -1, 2, -2):
            if size < abs(by) + 3:
                continue
            inner = np.take(evidence.analytic, range(max(0, by), size + min(0, by)), axis + 1)
            target = np.take(evidence.numeric, range(max(0, -by), size + min(0, -by)), axis + 1)
            if np.abs(inner - target).max() <= UNEXPLAINED * error and np.abs(target).max() > 0.1 * error:
                return (
                    f"shifted: the right gradient is this one moved by {-by} along axis {axis} "
                    "(an offset, a padding or a crop)"
                )
    return ""


def _mean_dropped(evidence: Evidence) -> str:
    """analytic - numeric is the same all along some axes."""
    missing = evidence.analytic - evidence.numeric
    for axes in _axis_sets(evidence.shape, largest_first=True):
        along = tuple(axis + 1 for axis in axes)
        level = missing.mean(axis=along, keepdims=True)
        if not evidence.explains(evidence.analytic - level):
            continue
        centred = evidence.analytic - evidence.analytic.mean(axis=along, keepdims=True)
        if evidence.explains(centred):
            return f"mean's gradient dropped: the right gradient is this one minus its mean over axes {axes}"
        return (
            f"mean's gradient dropped: the error is constant along axes {axes}, so a term that goes through "
            "a sum or mean over them is missing (or added)"
        )
    return ""


def _proportional(evidence: Evidence) -> str:
    """analytic - numeric is a known array times a factor per slice."""
    missing = evidence.analytic - evidence.numeric
    for text, array in _known_arrays(evidence):
        for axes in _axis_sets(evidence.shape, largest_first=True):
            part = array(axes)
            along = tuple(axis + 1 for axis in axes)
            norm = np.square(part).sum(axis=along, keepdims=True)
            factor = (missing * part).sum(axis=along, keepdims=True) / np.where(norm == 0, 1, norm)
            if evidence.explains(evidence.analytic - factor * part):
                return text.format(axes=axes)
    return ""


def _known_arrays(evidence: Evidence) -> Iterator[tuple[str, Callable]]:
    for cotangent in evidence.same_shaped(evidence.cotangents, cotangents=True):
        yield (
            "a path is dropped (or counted twice): the error is proportional to the upstream gradient itself (the "
            "direct path: a skip connection, or x in x + f(x))",
            lambda axes, cotangent=cotangent: cotangent,
        )
    yield (
        "variance's gradient dropped: the error is proportional to the centred input along axes {axes}",
        lambda axes: (evidence.value - evidence.value.mean(axis=axes, keepdims=True))[None],
    )
    for output in evidence.same_shaped(evidence.outputs):
        yield (
            "the error is proportional to the output along axes {axes}: a term through the normalising sum over "
            "them is dropped (softmax's sum?)",
            lambda axes, output=output: output[None],
        )


# Patterns in the Jacobian


def _misplaced(evidence: Evidence) -> str:
    """Where along each axis an output's gradient sits, against where it should: a stride shows as a slope."""
    if evidence.jacobians is None or not evidence.shape:
        return ""
    analytic, numeric = (jacobian.T.reshape(-1, *evidence.shape) for jacobian in evidence.jacobians)
    start = 0
    for output in evidence.outputs:
        stop = start + output.size
        text = _misplaced_in(analytic[start:stop], numeric[start:stop], output.shape, evidence.shape)
        if text:
            return text
        start = stop
    return ""


def _misplaced_in(analytic, numeric, output_shape, shape) -> str:
    for axis in range(len(shape)):
        place = axis - len(shape)  # axes are matched from the last
        if -place > len(output_shape) or output_shape[place] < 3:
            continue
        right = _step_of(_centres(numeric, axis), output_shape, place)
        found = _step_of(_centres(analytic, axis), output_shape, place)
        if right is None or found is None or abs(right - found) < 0.2:
            continue
        if abs(right - round(right)) < 0.05:
            return (
                f"stride ignored on axis {axis}: from one output to the next the gradient moves by {found:.3g}, "
                f"it should move by {round(right)}"
            )
    return ""


def _centres(jacobian: np.ndarray, axis: int) -> np.ndarray:
    """The centre of each output's gradient along one axis of the input."""
    others = tuple(a for a in range(1, jacobian.ndim) if a != axis + 1)
    weight = np.abs(jacobian).sum(axis=others)
    weight[weight < 1e-6 * max(weight.max(), 1e-300)] = 0
    total = weight.sum(axis=1)
    return np.where(total > 0, weight @ np.arange(weight.shape[1]) / np.where(total > 0, total, 1), np.nan)


def _step_of(centres: np.ndarray, output_shape, place: int) -> float | None:
    """How far the centre moves, typically, from one output to the next along an output axis."""
    steps = np.diff(centres.reshape(output_shape), axis=place)
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) if steps.size else None


def _lost_shares(evidence: Evidence) -> str:
    """Each output's share in an element is either right or absent: written over, or not summed."""
    if evidence.jacobians is None:
        return ""
    analytic, numeric = evidence.jacobians
    size = np.abs(numeric).max()
    right = np.abs(analytic - numeric) <= 1e-3 * np.abs(numeric) + 1e-9 * size
    absent = (np.abs(analytic) <= 1e-9 * size) & ~right
    partly = right & (np.abs(numeric) > 1e-6 * size)
    losing = absent.any(axis=1)
    if not (right | absent).all() or not losing.any() or not partly[losing].any(axis=1).all():
        return ""
    shares = f"only {int(partly[losing].sum())} of the {int((absent | partly)[losing].sum())} contributions arrive"
    for output in evidence.outputs:
        if axes := broadcast_axes(evidence.shape, output.shape):
            return (
                f"missing sum over the broadcast axes: this input is broadcast along axes {axes} of the output, "
                f"but {shares}"
            )
    return f"overwritten instead of added: elements used several times get only some of their gradients ({shares})"


# Patterns that also hold over the wrong elements alone


def _sign(evidence: Evidence) -> str:
    there = evidence.there
    return "wrong sign: the gradient is -1 times the right one" if there.explains(-there.analytic) else ""


def _factor(evidence: Evidence) -> str:
    there = evidence.there
    norm = np.square(there.numeric).sum()
    factor = float((there.analytic * there.numeric).sum() / norm) if norm else 0.0
    if factor == 0.0 or not there.explains(factor * there.numeric, instead_of=there.analytic):
        return ""
    return ("wrong sign and " if factor < 0 else "") + _name_factor(abs(factor), evidence)


def _name_factor(factor: float, evidence: Evidence) -> str:
    sizes = _sizes(evidence)
    for number, meaning in sizes.items():
        if number > 2 and math.isclose(factor, number, rel_tol=1e-3):
            return f"a factor {number} too large: {number} is {meaning}; a mean's 1/{number} is forgotten"
        if number > 2 and math.isclose(factor, 1 / number, rel_tol=1e-3):
            return (
                f"a factor 1/{number} too small: {number} is {meaning}; averaged (mean) where it must be summed, "
                "or divided twice"
            )
    if math.isclose(factor, 2, rel_tol=1e-3):
        return "a factor 2 too large: counted twice (added once too often, or a 1/2 is forgotten)" + _or_two(sizes)
    if math.isclose(factor, 0.5, rel_tol=1e-3):
        return (
            "a factor 1/2 (half) too small: overwritten instead of added where the input is used twice, or a "
            "factor 2 is forgotten" + _or_two(sizes)
        )
    for number, meaning in sizes.items():
        if number > 4 and math.isclose(factor, number / (number - 1), rel_tol=1e-5):
            return f"a factor {number}/{number - 1}: n/(n-1) with n = {number}, {meaning}: biased or unbiased variance?"
        if number > 4 and math.isclose(factor, (number - 1) / number, rel_tol=1e-5):
            return f"a factor {number - 1}/{number}: (n-1)/n with n = {number}, {meaning}: biased or unbiased variance?"
    return f"a constant factor {factor:.6g} (the gradient is {factor:.6g} times the right one)"


def _or_two(sizes) -> str:
    return f"; or a mean over 2: {sizes[2]}" if 2 in sizes else ""


def _sizes(evidence: Evidence) -> dict[int, str]:
    """Every size that a mean could have run over, with its meaning."""
    found: dict[int, str] = {}
    shapes = [(evidence.shape, "the input")] + [
        (output.shape, f"output {number}" if len(evidence.outputs) > 1 else "the output")
        for number, output in enumerate(evidence.outputs)
    ]
    for shape, whose in shapes:
        found.setdefault(math.prod(shape), f"the number of elements of {whose}")
        for axes in _axis_sets(shape):
            which = f"axis {axes[0]}" if len(axes) == 1 else f"axes {axes}"
            found.setdefault(math.prod(shape[axis] for axis in axes), f"the size of {which} of {whose}")
    return found


def _zero_there(evidence: Evidence) -> str:
    there = evidence.there
    if np.abs(there.analytic).max() <= 1e-12 * np.abs(there.numeric).max():
        return "nothing reaches these elements: the gradient is zero there"
    return ""


def _factor_per_index(evidence: Evidence) -> str:
    """analytic / numeric depends on the index along a few axes only."""
    for axes in _axis_sets(evidence.shape):
        if len(axes) == len(evidence.shape):
            continue
        others = (0, *(axis + 1 for axis in range(len(evidence.shape)) if axis not in axes))
        norm = np.square(evidence.numeric).sum(axis=others, keepdims=True)
        factor = (evidence.analytic * evidence.numeric).sum(axis=others, keepdims=True) / np.where(norm == 0, 1, norm)
        if evidence.explains(factor * evidence.numeric, instead_of=evidence.analytic):
            values = ", ".join([f"{value:.3g}" for value in factor.ravel()[:5]] + ["…"] * (factor.size > 5))
            return (
                f"a factor that depends only on the index along axes {axes} ({values}): "
                "a per-index factor (a weight, a deviation, a count) is forgotten or applied twice"
            )
    return ""


PATTERNS = (
    _nothing_reaches, _no_dependence, _sign, _factor, _transposed, _lost_shares, _mean_dropped, _misplaced,
    _shifted, _zero_there, _factor_per_index, _proportional,
)


# Where the wrong elements are


def _where(wrong: np.ndarray) -> str:
    """" (3 of 12 elements: …)" unless all are wrong."""
    count = int(wrong.sum())
    if count == wrong.size or count == 0:
        return ""
    indices = ", ".join(str(plain_index(int(flat), wrong.shape)) for flat in np.flatnonzero(wrong)[:4])
    listed = f"index {indices}" + (", …" if count > 4 else "")
    verb = "is" if count == 1 else "are"
    return f"; only {count:,} of {wrong.size:,} elements {verb} wrong: {listed}" + _layout(wrong)


def _layout(wrong: np.ndarray) -> str:
    if wrong.sum() < 2:
        return ""
    if border := _border(wrong):
        return border
    for axis, size in enumerate(wrong.shape):
        others = tuple(a for a in range(wrong.ndim) if a != axis)
        touched = np.flatnonzero(wrong.any(axis=others))
        if len(touched) == size:
            continue
        for period in (2, 3, 4):
            classes = np.unique(touched % period)
            if len(touched) > 1 and len(classes) == 1 and size > 2 * period - 1 and len(touched) >= size // period:
                return f" (along axis {axis} every {period} with remainder {classes[0]}: a stride or a step?)"
        if len(touched) <= max(1, size // 4):
            return f" (all at index {', '.join(str(i) for i in touched)} of axis {axis})"
    return ""


def _border(wrong: np.ndarray) -> str:
    """Whether the wrong elements are all in the outermost rows of the last two axes."""
    if wrong.ndim < 2:
        return ""
    planes = wrong.any(axis=tuple(range(wrong.ndim - 2)))
    nearest = [np.minimum(place, size - 1 - place) for place, size in zip(np.indices(planes.shape), planes.shape)]
    distance = np.min(nearest, axis=0)
    width = int(distance[planes].max()) + 1
    if width > distance.max():
        return ""
    axes = (wrong.ndim - 2, wrong.ndim - 1)
    rows = "1 row" if width == 1 else f"{width} rows"
    return f" (all within {rows} of the border of axes {axes}: padding or cropping?)"


def _similarity(evidence: Evidence) -> str:
    a, b = evidence.analytic.ravel(), evidence.numeric.ravel()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return f" (correlation with the right gradient {float(a @ b) / norm:.2f})" if norm else ""


def _axis_sets(shape, largest_first: bool = False) -> Iterator[tuple[int, ...]]:
    """Sets of axes longer than one, small sets first or last."""
    axes = [axis for axis, size in enumerate(shape) if size > 1][:4]
    counts = range(1, len(axes) + 1)
    for count in reversed(counts) if largest_first else counts:
        yield from itertools.combinations(axes, count)
