"""Compares one input's analytic gradient with differences, entry by entry; doubts are settled on the ladder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .analytic import Analytic
from .differences import Numeric
from .probe import Probe

BATCH = 16  # doubtful elements looked at on the ladder at a time
ENOUGH = 64  # once an error is certain, this many are looked at
SHARP = 1e-3  # a gap between two slopes, relative to the gradient's scale, that is worth a second look


@dataclass(frozen=True)
class Tolerance:
    eps: float
    atol: float
    rtol: float
    nondet_tol: float

    def __post_init__(self):
        if not 0 < self.eps < 0.1:
            raise ValueError(f"gradcheck: eps must lie between 0 and 0.1, got {self.eps}")
        for name in ("atol", "rtol", "nondet_tol"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"gradcheck: {name} must be finite and not negative, got {getattr(self, name)}")


@dataclass
class Judged:
    """One input's comparison, entry by entry (size, rows)."""

    numeric: np.ndarray
    error: np.ndarray
    wrong: np.ndarray
    gap: np.ndarray
    unresolved: np.ndarray
    scale: np.ndarray


def judge(probe: Probe, place: int, analytic: Analytic, tolerance: Tolerance) -> Judged:
    """Every element at one step; where that leaves a doubt, the ladder of steps decides."""
    numeric = Numeric(probe.values, probe.arrays[place], tolerance.eps, probe.base, analytic.projections)
    answer = analytic.rows[place]
    found = numeric.sweep(probe.names[place])
    finite = np.isfinite(found.derivative) & np.isfinite(found.gap) & np.isfinite(found.noise)
    derivative = np.where(finite, found.derivative, 0.0)
    noise = np.where(finite, found.noise, np.inf)
    scale = _own_scale(derivative)
    size = np.abs(derivative)
    allowed = _allowed(size, size.max(axis=0, keepdims=True), size.max(axis=1, keepdims=True), noise, tolerance)
    differs = finite & (np.abs(answer - derivative) > allowed)
    judged = Judged(
        derivative, noise, differs.copy(), np.zeros_like(derivative), np.zeros_like(differs), scale
    )
    doubtful = ~finite | differs | _too_noisy(derivative, answer, noise)
    doubtful |= np.abs(np.where(finite, found.gap, 0.0)) > 2 * noise + SHARP * scale
    _climb(numeric, answer, tolerance, judged, _order(doubtful, answer, derivative, allowed))
    return judged


def _allowed(size: np.ndarray, row: np.ndarray, column: np.ndarray, error: np.ndarray, tolerance: Tolerance):
    """How far an entry of this size may be off; ``row`` and ``column`` are the largest sizes beside it.

    ``atol`` is relative to the smaller of the two, so that an entry is small only beside its like.
    """
    return tolerance.rtol * size + tolerance.atol * np.minimum(row, column) + np.where(np.isfinite(error), error, 0.0)


def _own_scale(derivative: np.ndarray) -> np.ndarray:
    """What an entry is small or large against: the largest of its row or of its column, whichever is less."""
    size = np.abs(derivative)
    return np.minimum(size.max(axis=0, keepdims=True), size.max(axis=1, keepdims=True))


def _too_noisy(derivative: np.ndarray, analytic: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Entries that matter (within 1/1000 of the largest) but that this step cannot resolve well."""
    size = np.maximum(np.abs(derivative), np.abs(analytic))
    return (noise > SHARP * size) & (size > 1e-3 * size.max())


def _order(doubtful: np.ndarray, analytic, derivative, allowed) -> list[int]:
    """The elements in doubt, the worst first."""
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num(np.abs(analytic - derivative) / allowed).max(axis=1)
    elements = np.flatnonzero(doubtful.any(axis=1))
    return [int(element) for element in elements[np.argsort(-excess[elements], kind="stable")]]


def _climb(
    numeric: Numeric, analytic: np.ndarray, tolerance: Tolerance, judged: Judged, order: list[int]
) -> None:
    """Replaces the doubtful elements' differences by the ladder's, batch by batch until an error is certain."""
    certain = False
    for start in range(0, len(order), BATCH):
        if certain and start >= ENOUGH:
            return
        for element in order[start : start + BATCH]:
            rungs = numeric.ladder(element)
            judged.numeric[element], judged.error[element], judged.gap[element] = (
                rungs.derivative, rungs.error, rungs.gap,
            )
            certain |= _judge_element(judged, analytic[element], element, tolerance)
    judged.scale = _own_scale(judged.numeric)


def _judge_element(judged: Judged, analytic: np.ndarray, element: int, tolerance: Tolerance) -> bool:
    """Decides one element from the ladder; returns whether it is certainly wrong."""
    derivative, error, gap = judged.numeric[element], judged.error[element], judged.gap[element]
    size = np.maximum(np.abs(derivative), np.abs(analytic))
    row, column = np.abs(judged.numeric).max(axis=0), np.abs(derivative).max()
    kink = np.abs(gap) > SHARP * np.maximum(np.minimum(row, column), size)
    allowed = _allowed(np.abs(derivative), row, column, error, tolerance)
    # at a kink any slope between the two sides is a subgradient: nothing can be said against it
    allowed = np.where(kink, 0.501 * np.abs(gap) + 1e-6 * size, allowed)
    lost = ~np.isfinite(error) | ((error > 0.05 * size) & (size > 0.1 * np.abs(judged.numeric).max()))
    wrong = (np.abs(analytic - derivative) > allowed) & np.isfinite(error)
    judged.wrong[element] = wrong
    judged.gap[element] = np.where(kink & ~wrong, gap, 0.0)
    judged.unresolved[element] = lost & ~kink & ~wrong
    return bool(wrong.any())
