"""What backward answers: the Jacobian or projections of it, and whether it is linear in what comes from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .inputs import plain_index
from .probe import Probe, Problem

FULL_OUTPUTS = 1024  # up to this many outputs every row of the Jacobian is compared, beyond it projections
FULL_ENTRIES = 4_000_000
PROJECTIONS = 8
DENSE = 4  # random upstream gradients used for diagnosis


@dataclass(frozen=True)
class Crooked:
    """How far a gradient is from being linear in the upstream gradient, and what that looks like."""

    deviation: float
    cause: str


@dataclass
class Analytic:
    """Backward's answers per input: ``rows`` (size, rows) as compared, ``dense`` (PROJECTIONS, size).

    ``cotangents`` (PROJECTIONS, outputs) are the random upstream gradients of ``dense``; they are also the
    ``projections`` unless the full Jacobian is compared.
    """

    cotangents: np.ndarray
    projections: np.ndarray | None
    rows: list[np.ndarray]
    dense: list[np.ndarray]
    reached: list[bool]  # False where backward returned None
    crooked: list[Crooked | None]


def analytic_gradients(probe: Probe, fast_mode: bool, nondet_tol: float) -> Analytic:
    """All that is asked of backward, once per output element and for a few random upstream gradients."""
    generator = np.random.default_rng(20240229)
    outputs, inputs = probe.output_size, sum(array.size for array in probe.arrays)
    # magnitudes within [0.5, 1.5]: no output may vanish in a projection
    cotangents = generator.uniform(0.5, 1.5, (PROJECTIONS, outputs))
    cotangents *= generator.choice([-1.0, 1.0], cotangents.shape)
    answers = [probe.gradients(cotangents[0])]
    probe.check_inputs_unchanged("backward")
    _check_repeatable(probe, answers[0], cotangents[0], nondet_tol)
    answers += [probe.gradients(cotangent) for cotangent in cotangents[1:]]
    compressed = fast_mode or outputs > FULL_OUTPUTS or outputs * inputs > FULL_ENTRIES
    projections = cotangents if compressed else None
    dense = [_stack(answers, place, array.size) for place, array in enumerate(probe.arrays)]
    rows = [part.T for part in dense] if compressed else _jacobians(probe)
    reached = [answers[0][place] is not None for place in range(len(probe.arrays))]
    crooked = _linearity(probe, cotangents, dense)
    return Analytic(cotangents, projections, rows, dense, reached, crooked)


def _stack(answers: Sequence, place: int, size: int) -> np.ndarray:
    """(answers, size) with zeros where backward gave None."""
    return np.array([np.zeros(size) if answer[place] is None else answer[place] for answer in answers])


def _jacobians(probe: Probe) -> list[np.ndarray]:
    """Per input (size, outputs): one backward pass for every output element."""
    jacobians = [np.zeros((array.size, probe.output_size)) for array in probe.arrays]
    unit = np.zeros(probe.output_size)
    for position in range(probe.output_size):
        unit[position] = 1.0
        for jacobian, gradient in zip(jacobians, probe.gradients(unit)):
            if gradient is not None:
                jacobian[:, position] = gradient
        unit[position] = 0.0
    return jacobians


def _check_repeatable(probe: Probe, first: Sequence, cotangent: np.ndarray, nondet_tol: float) -> None:
    second = probe.gradients(cotangent)
    for place, (name, array) in enumerate(zip(probe.names, probe.arrays)):
        difference = np.abs(np.diff(_stack([first, second], place, array.size), axis=0))[0]
        if difference.max() > nondet_tol:
            index = plain_index(int(np.argmax(difference)), array.shape)
            raise Problem(
                "backward is random (not deterministic): two backward runs with the same upstream gradient differ "
                f"by {difference.max():.3g} in the gradient of {name} at index {index}"
            )


def _linearity(probe: Probe, cotangents: np.ndarray, dense: Sequence[np.ndarray]) -> list[Crooked | None]:
    """Per input, what is wrong if the gradient does not depend linearly on the upstream gradient."""
    combined = probe.gradients(2 * cotangents[0] - 3 * cotangents[1])
    nothing = probe.gradients(np.zeros(probe.output_size))
    found: list[Crooked | None] = []
    for place, answers in enumerate(dense):
        first, second = answers[0], answers[1]
        mixed, zero = (_stack([part], place, first.size)[0] for part in (combined, nothing))
        deviation = np.abs(mixed - (2 * first - 3 * second)).max()
        small = 1e-8 * (np.abs(first).max() + np.abs(second).max())
        if deviation <= small:
            found.append(None)
        elif np.abs(first - second).max() <= small:
            found.append(Crooked(deviation, (
                "upstream gradient ignored: backward returns the same gradient whatever comes from above; "
                "multiply by the incoming grad"
            )))  # fmt: skip
        elif np.abs(zero).max() > small:
            found.append(Crooked(deviation, (
                "upstream gradient ignored in one term: backward returns something even for an upstream "
                "gradient of zero"
            )))  # fmt: skip
        else:
            found.append(Crooked(
                deviation, "backward is not linear in the upstream gradient (is it squared, clipped, or compared?)"
            ))  # fmt: skip
    return found
