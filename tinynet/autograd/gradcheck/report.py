"""What a gradient check found: verdicts per input, and the text that explains them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """PASS: the gradient is right. FAIL: it is wrong. INCONCLUSIVE: this point cannot tell."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class GradcheckError(RuntimeError):
    """A gradient that did not pass. ``report`` holds the findings (None where the call itself was refused)."""

    report: Report | None = None


class GradcheckRefusal(GradcheckError, ValueError):
    """Inputs that cannot be checked: empty, overlapping, float32, NaN, or none that requires grad."""


@dataclass(frozen=True)
class InputReport:
    """The finding for one input. Indices are tuples; ``output_index`` is None for a random upstream gradient."""

    name: str  # "input 0 (x)" or "parameter conv1.weight"
    shape: tuple[int, ...]
    verdict: Verdict
    elements: int
    wrong: int = 0
    worst_index: tuple[int, ...] | None = None
    output_index: tuple[int, ...] | None = None
    output: int = 0  # which of several outputs
    analytic: float = 0.0
    numeric: float = 0.0
    relative_error: float = 0.0  # |analytic - numeric|, relative to the gradient's own scale there
    cause: str = ""

    @property
    def text(self) -> str:
        head = f"{self.verdict}: {self.name}, shape {list(self.shape)}"
        if self.verdict is Verdict.PASS:
            return f"{head}: worst relative error {self.relative_error:.1e}"
        lines = [f"{head}: {self.cause}"]
        if self.worst_index is not None:
            lines.append(
                f"  worst at index {self.worst_index} {self._of_what()}: analytic {self.analytic:.9g}, "
                f"numeric {self.numeric:.9g}, relative error {self.relative_error:.2g}"
            )
        if self.wrong == self.elements:
            lines.append(f"  all {self.elements:,} elements are wrong")
        return "\n".join(lines)

    def _of_what(self) -> str:
        if self.output_index is None:
            return "(for a random upstream gradient)"
        which = f"output {self.output}" if self.output else "the output"
        return f"(of {which} at {self.output_index})"


@dataclass(frozen=True)
class Report:
    """The finding for the whole function; ``problem`` is set where it could not be compared at all."""

    verdict: Verdict
    inputs: tuple[InputReport, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def relative_error(self) -> float:
        """The worst relative error of all inputs."""
        return max((entry.relative_error for entry in self.inputs), default=0.0)

    @property
    def text(self) -> str:
        if self.problem:
            return f"gradcheck {self.verdict}: {self.problem}"
        lines = [f"gradcheck {self.verdict}"]
        lines += [entry.text for entry in self.inputs]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text


def overall(verdicts) -> Verdict:
    """FAIL if any failed, else INCONCLUSIVE if any could not be told, else PASS."""
    present = set(verdicts)
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in present:
            return verdict
    return Verdict.PASS
