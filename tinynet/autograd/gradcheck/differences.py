"""Numeric derivatives: central differences with a known noise, and a ladder of steps where they are in doubt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinynet.utils.progress import progress

ROUNDING = 2.0**-53
BACKWARD = 4.0  # backward's rounding errors beside those of the values, both relative to their scales
SAFETY = 8.0  # noise bars are this many standard deviations (a million entries stay within 5)
LARGEST, SMALLEST = 9, -12  # powers of 4: the ladder's steps are 3e5 to 6e-8 times the usual one
UNDERFLOW = 1e-306  # where float64 begins to lose digits
NOISE_POINTS = 9
FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])


@dataclass
class Differences:
    """Per input element and row: central difference, its rounding error bar, and the jump between its two sides."""

    derivative: np.ndarray
    noise: np.ndarray
    gap: np.ndarray


@dataclass
class Rungs:
    """What the ladder says about one input element, per row."""

    derivative: np.ndarray
    error: np.ndarray
    gap: np.ndarray  # right slope - left slope where they stay apart however small the step, else 0


class Numeric:
    """Finite differences in one input, of all outputs or (given ``projections``) of their projections."""

    def __init__(self, values: Callable[[], np.ndarray], array: np.ndarray, eps: float, base: np.ndarray,
                 projections: np.ndarray | None = None):
        self._array = array
        if projections is None:
            self._evaluate, self._base, self._magnitude = values, base, np.abs(base)
        else:
            self._evaluate = lambda: projections @ values()
            self._base, self._magnitude = projections @ base, np.abs(projections) @ np.abs(base)
        typical = float(np.sqrt(np.mean(np.square(array)))) or 1.0
        self._scale = np.maximum(np.abs(array), typical).ravel()
        self._steps = eps * self._scale
        self._rounding = self._measured_rounding()

    def _measured_rounding(self) -> np.ndarray:
        """The standard deviation of the function's rounding errors, per row.

        Fourth differences over steps so small that the function itself is straight: what they show is
        rounding (the idea of Moré & Wild, Estimating computational noise, SIAM J. Sci. Comput. 33, 2011).
        """
        before = self._array.copy()
        signs = np.where(np.arange(before.size) % 2, -1.0, 1.0)
        size = np.abs(before).ravel()
        step = (1e-13 * np.where(size == 0, self._scale, size) * signs).reshape(before.shape)
        values = []
        try:
            for k in range(NOISE_POINTS):
                self._array[...] = before + k * step
                values.append(self._evaluate())
        finally:
            self._array[...] = before
        stacked = np.nan_to_num(np.array(values), nan=0.0, posinf=0.0, neginf=0.0)
        fourth = sum(weight * stacked[k : k + NOISE_POINTS - 4] for k, weight in enumerate(FOURTH))
        return np.sqrt(np.mean(np.square(fourth), axis=0) / np.square(FOURTH).sum())

    def sweep(self, label: str) -> Differences:
        """Central differences for every element: two evaluations each. ``label`` names the progress bar."""
        size = self._array.size
        found = Differences(*(np.empty((size, self._base.size)) for _ in range(3)))
        for element in progress(range(size), desc=f"gradcheck {label}", delay=2, leave=False):
            one = self._central(element, self._steps[element])
            found.derivative[element], found.noise[element], found.gap[element] = one
        return found

    def _central(self, element: int, step: float):
        """Derivative, noise and gap (right slope - left slope) at one step."""
        flat = self._array.flat
        value = flat[element]
        try:
            flat[element] = value + step
            right, above = flat[element] - value, self._evaluate()
            flat[element] = value - step
            left, below = value - flat[element], self._evaluate()
        finally:
            flat[element] = value
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            up, down = above - self._base, self._base - below
            moved = np.maximum(np.abs(up), np.abs(down))
            # numbers inside the function may be larger than its output: as large as this element moves others
            inside = np.max(moved, where=np.isfinite(moved), initial=0.0) * self._scale[element] / step
            noise = self._rounding + 2 * ROUNDING * (self._magnitude + moved + inside) + UNDERFLOW
            return (above - below) / (left + right), SAFETY * noise / step, up / right - down / left

    def ladder(self, element: int) -> Rungs:
        """The best of many step sizes, by Richardson's extrapolation, and whether a kink remains.

        A step is as good as it agrees with the next larger one, and with all smaller ones within their noise
        (a step that spans many waves of a sine agrees with its neighbours, but not with small steps). A
        smooth function's two slopes approach each other as the step shrinks; at a kink they stay apart, and
        the gap that stays is an error too, so that a step on one side of a kink beats one across it.
        """
        steps = self._ladder_steps(element)
        derivative, noise, gap = (np.array(part) for part in zip(*[self._central(element, step) for step in steps]))
        usual = noise[LARGEST]
        # a value that never moves may have been rounded away beside a 1, as in log(1 + 1e-17)
        noise += np.where((derivative == 0) & (gap == 0), SAFETY * 2 * ROUNDING / steps[:, None], 0.0)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            extrapolated = ((16 * derivative[1:] - derivative[:-1]) / 15)[1:]
            change = np.abs(np.diff((16 * derivative[1:] - derivative[:-1]) / 15, axis=0))
            noise, size, before = 1.2 * noise[2:], np.abs(gap[2:]), np.abs(gap[1:-1])
            stays = (size > 2 * noise) & (before < 2 * size)
            error = change + noise + np.where(stays, size, 0.0) + _disagreement(extrapolated, noise)
        error = np.where(np.isfinite(error), error, np.inf) + self._backward_rounding(element, usual)
        best, rows = np.argmin(error, axis=0), np.arange(error.shape[1])
        kink = stays[best, rows] & (size[best, rows] > 0.3 * error[best, rows])
        return Rungs(
            np.nan_to_num(extrapolated[best, rows]), error[best, rows],
            np.where(kink, np.nan_to_num(gap[2:][best, rows]), 0.0),
        )

    def _backward_rounding(self, element: int, noise: np.ndarray) -> np.ndarray:
        """How exact backward itself can be, judged by the rounding of the values (``noise`` at the usual step).

        Where a gradient cancels to nearly nothing, large steps show it more exactly than backward computes it.
        """
        values = np.where(np.isfinite(noise), noise, 0.0) * self._steps[element]
        return BACKWARD * values / self._scale[element]

    def _ladder_steps(self, element: int) -> np.ndarray:
        """Steps a factor 4 apart, down to well below the element itself (log of a small number)."""
        usual, value = self._steps[element], abs(self._array.flat[element])
        lowest = SMALLEST
        if value:
            lowest = min(lowest, math.floor(math.log(1e-3 * value / usual, 4)))
        return usual * 4.0 ** np.arange(LARGEST, lowest - 1, -1)


def _disagreement(derivative: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How far each step's derivative is from those of smaller steps, beyond what their noise allows."""
    found = np.zeros_like(derivative)
    for larger in range(len(derivative) - 1):
        beyond = np.abs(derivative[larger] - derivative[larger + 1 :]) - noise[larger + 1 :]
        found[larger] = np.max(beyond, axis=0, where=np.isfinite(beyond), initial=0.0)
    return found
