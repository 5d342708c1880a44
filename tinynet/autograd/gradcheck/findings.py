"""From comparisons to verdicts: what is said about each input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .analytic import DENSE, Analytic, analytic_gradients
from .causes import Evidence, likely_cause, swapped
from .inputs import plain_index
from .judge import SHARP, Judged, Tolerance, judge
from .probe import Probe
from .report import InputReport, Report, Verdict, overall


def compare(probe: Probe, tolerance: Tolerance, fast_mode: bool) -> Report:
    """The whole check of one function. Raises Problem where there is nothing to compare."""
    analytic = analytic_gradients(probe, fast_mode, tolerance.nondet_tol)
    judged = [judge(probe, place, analytic, tolerance) for place in range(len(probe.arrays))]
    probe.check_still_the_same()
    findings = [Finding(probe, analytic, place, found) for place, found in enumerate(judged)]
    evidence = [finding.evidence() for finding in findings]
    reports = tuple(finding.report(evidence) for finding in findings)
    return Report(overall(entry.verdict for entry in reports), reports, notes=tuple(probe.notes))


@dataclass
class Finding:
    """One input's comparison, on its way to a verdict."""

    probe: Probe
    analytic: Analytic
    place: int
    judged: Judged

    @property
    def name(self) -> str:
        return self.probe.names[self.place]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.probe.arrays[self.place].shape

    @property
    def answer(self) -> np.ndarray:
        """What backward gave, (size, rows)."""
        return self.analytic.rows[self.place]

    def evidence(self) -> Evidence:
        """What the patterns of causes.py look at."""
        judged, full = self.judged, self.analytic.projections is None
        cotangents = self._cotangents()
        numeric = np.where(judged.gap == 0, judged.numeric, self.answer)  # nothing is known against it at a kink
        told = np.isfinite(judged.error) & (judged.gap == 0) & ((judged.numeric != 0) | (self.answer != 0))
        error = np.where(told, judged.error, 0.0)
        return Evidence(
            analytic=(cotangents @ self.answer.T if full else self.answer.T[:DENSE]).reshape(-1, *self.shape),
            numeric=(cotangents @ numeric.T if full else numeric.T[:DENSE]).reshape(-1, *self.shape),
            noise=float(1.5 * error.sum(axis=1).max()) if full else float(error.max()),
            wrong=judged.wrong.any(axis=1).reshape(self.shape),
            value=self.probe.arrays[self.place].copy(),
            outputs=self.probe.outputs,
            cotangents=self.probe.split(cotangents),
            jacobians=(self.answer, numeric) if full else None,
        )

    def _cotangents(self) -> np.ndarray:
        """Random upstream gradients, zero on outputs whose gradients are all right (they would blur the error)."""
        cotangents = self.analytic.cotangents[:DENSE].copy()
        if self.analytic.projections is None and self.judged.wrong.any():
            wrong_outputs = np.any(self.judged.wrong, axis=0, keepdims=True)
            for piece, wrong in zip(self.probe.split(cotangents), self.probe.split(wrong_outputs)):
                if not wrong.any():
                    piece[...] = 0  # a view of the cotangents
        return cotangents

    def report(self, evidence: Sequence[Evidence]) -> InputReport:
        """The verdict: an error beats a kink, a kink beats a gradient of zero, and only what remains passes."""
        judged, own = self.judged, evidence[self.place]
        zero, crooked = self._is_zero(), self.analytic.crooked[self.place]
        if crooked and not zero and crooked.deviation > self._rounding():
            return self._say(Verdict.FAIL, crooked.cause, self._dense_entry())
        if judged.wrong.any():
            cause = "" if self.analytic.reached[self.place] else "nothing reaches this input: backward returned None"
            cause = cause or swapped(self.place, evidence, self.probe.names) or likely_cause(own)
            wrong = {"wrong": int(judged.wrong.any(axis=1).sum())}
            return self._say(Verdict.FAIL, cause, wrong | self._worst(judged.wrong))
        if judged.gap.any():
            return self._kink()
        if zero:
            return self._say(Verdict.INCONCLUSIVE, _zero_text(self.analytic.reached[self.place]))
        if judged.unresolved.any():
            return self._say(Verdict.INCONCLUSIVE, self._unresolved_text())
        resolved = judged.error <= SHARP * judged.scale
        return self._say(Verdict.PASS, "", self._worst(resolved if resolved.any() else judged.scale > 0))

    def _say(self, verdict: Verdict, cause: str, fields: dict | None = None) -> InputReport:
        return InputReport(self.name, self.shape, verdict, len(self.answer), cause=cause, **(fields or {}))

    def _is_zero(self) -> bool:
        """Whether nothing sticks out of the noise on either side."""
        judged = self.judged
        return bool(
            (np.abs(judged.numeric) <= judged.error).all() and (np.abs(self.answer) <= judged.error).all()
        )

    def _rounding(self) -> float:
        """What rounding may do to a gradient that is a sum over all rows (each upstream gradient up to 7.5)."""
        error = self.judged.error
        return float(7.5 * np.where(np.isfinite(error), error, 0.0).sum(axis=1).max())

    def _relative(self) -> np.ndarray:
        """The error relative to the gradient's own scale."""
        scale = np.maximum(self.judged.scale, np.abs(self.answer))
        return np.abs(self.answer - self.judged.numeric) / np.where(scale == 0, 1.0, scale)

    def _worst(self, among: np.ndarray) -> dict:
        """The fields that name the entry of the largest relative error among the marked ones."""
        relative = np.where(among, self._relative(), -1.0)
        return self._entry(*np.unravel_index(int(np.argmax(relative)), relative.shape))

    def _entry(self, element, row) -> dict:
        fields = {
            "worst_index": plain_index(int(element), self.shape),
            "analytic": float(self.answer[element, row]),
            "numeric": float(self.judged.numeric[element, row]),
            "relative_error": float(self._relative()[element, row]),
        }
        if self.analytic.projections is None:
            output, index = self.probe.output_index(int(row))
            fields |= {"output": output, "output_index": index}
        return fields

    def _dense_entry(self) -> dict:
        """The fields for the worst entry under the first random upstream gradient."""
        cotangent, numeric = self.analytic.cotangents[0], self.judged.numeric
        right = numeric @ cotangent if self.analytic.projections is None else numeric[:, 0]
        given = self.analytic.dense[self.place][0]
        worst = int(np.argmax(np.abs(given - right)))
        largest = max(abs(given[worst]), abs(right[worst]))
        return {
            "worst_index": plain_index(worst, self.shape),
            "analytic": float(given[worst]),
            "numeric": float(right[worst]),
            "relative_error": float(abs(given[worst] - right[worst]) / largest) if largest else 0.0,
        }

    def _kink(self) -> InputReport:
        gaps = self.judged.gap
        elements = np.flatnonzero(gaps.any(axis=1))
        element, row = elements[0], int(np.argmax(np.abs(gaps[elements[0]])))
        slope, gap = self.judged.numeric[element, row], gaps[element, row]
        below, above = (0.0 if abs(side) < 1e-6 * abs(gap) else side for side in (slope - gap / 2, slope + gap / 2))
        indices = ", ".join(str(plain_index(int(e), self.shape)) for e in elements[:5])
        more = f" and at {len(elements) - 5} more" if len(elements) > 5 else ""
        text = (
            f"kink at {self.name} index {indices}{more}: the slope is {below:.4g} below and {above:.4g} above this "
            "value, so no derivative exists there (ReLU at 0? a tie in max?). Move the point, for example by a "
            "small random offset"
        )
        return self._say(Verdict.INCONCLUSIVE, text, self._entry(element, row))

    def _unresolved_text(self) -> str:
        errors = self.judged.error[np.isfinite(self.judged.error)]
        if max(np.abs(self.judged.numeric).max(), np.abs(self.answer).max()) <= errors.max(initial=0.0):
            return _zero_text(True)
        element, row = (int(i) for i in np.argwhere(self.judged.unresolved)[0])
        index, error = plain_index(element, self.shape), self.judged.error[element, row]
        if not np.isfinite(error):
            return (
                f"the function is not finite beside index {index}: the point lies on the edge of its domain. "
                "Move the point"
            )
        return (
            f"step-size trouble at index {index}: no step gives a stable difference (numeric "
            f"{self.judged.numeric[element, row]:.4g} ± {error:.2g}, analytic {self.answer[element, row]:.4g}); "
            "is something inside computed in float32, or nearly constant beside a large offset?"
        )


def _zero_text(reached: bool) -> str:
    if not reached:
        return "nothing reaches this input, and the function does not seem to depend on it: is it used?"
    return (
        "the gradient is zero everywhere at this point (or lost in rounding), so a wrong backward would look the "
        "same. Check the outputs themselves, or weigh them with random numbers before summing (batch norm under "
        "sum() has a gradient of exactly zero)"
    )
