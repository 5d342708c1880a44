"""The speed that tinynet promises, measured: the rows of the README's table, each ratio beside its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinynet.bench.alternate import Comparison
from tinynet.bench.table import aligned, milliseconds
from tinynet.bench.works import ADDITIONS, EAGER, FUSED, ONNXRUNTIME, TINYNET, TORCH_SIDES, TRAINING, Side, Work

FUSED_SIDE, EAGER_SIDE = Side(TINYNET, FUSED), Side(TINYNET, EAGER)
(PLAIN, LAST), ONNX = TORCH_SIDES, Side(ONNXRUNTIME)

SINGLE = Work("resnet50")
BATCH = Work("resnet50", batch=8)
PYRAMID = Work("resnet50_fpn", size=(640, 640))
STEP = Work("resnet50", TRAINING, 8)
SMALL_STEP = Work("cifar_resnet20", TRAINING, 128, (32, 32))
SUMS = Work(ADDITIONS, TRAINING, 1, (1, 1))

SIDES: dict[Work, tuple[Side, ...]] = {
    SINGLE: (FUSED_SIDE, EAGER_SIDE, PLAIN, LAST, ONNX),
    BATCH: (FUSED_SIDE, PLAIN, LAST, ONNX),
    PYRAMID: (FUSED_SIDE, PLAIN, LAST),
    STEP: (EAGER_SIDE, PLAIN, LAST),
    SMALL_STEP: (EAGER_SIDE, PLAIN, LAST),
    SUMS: (EAGER_SIDE, PLAIN),
}


@dataclass(frozen=True)
class Target:
    """One row: tinynet's time (or memory) over the rivals' best must not be above `limit`."""

    name: str
    work: Work
    own: Side
    rivals: tuple[Side, ...]
    limit: float
    memory: bool = False


TARGETS = (
    Target("ResNet-50 inference, fused, batch 1", SINGLE, FUSED_SIDE, (PLAIN, LAST), 0.9),
    Target("ResNet-50 inference, fused, batch 8", BATCH, FUSED_SIDE, (PLAIN, LAST), 0.9),
    Target("ResNet-50 inference, eager, batch 1", SINGLE, EAGER_SIDE, (PLAIN,), 1.1),
    Target("ResNet-50-FPN inference, fused, 640×640", PYRAMID, FUSED_SIDE, (PLAIN, LAST), 0.9),
    Target("ResNet-50 training step, batch 8", STEP, EAGER_SIDE, (PLAIN, LAST), 1.0),
    Target("CIFAR ResNet-20 training step, batch 128", SMALL_STEP, EAGER_SIDE, (PLAIN, LAST), 1.1),
    Target("peak memory of the ResNet-50 training step", STEP, EAGER_SIDE, (PLAIN, LAST), 1.0, memory=True),
    Target("1,000 additions of 16 elements, with backward", SUMS, EAGER_SIDE, (PLAIN,), 4.0),
    Target("aim: ResNet-50 inference, fused, batch 1", SINGLE, FUSED_SIDE, (ONNX,), 0.9),
    Target("aim: ResNet-50 inference, fused, batch 8", BATCH, FUSED_SIDE, (ONNX,), 0.9),
)


@dataclass(frozen=True)
class Outcome:
    """A target's measurement; values are seconds, or bytes of memory."""

    target: Target
    own: float
    rival: Side
    other: float
    ratio: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.target.limit


def outcomes(comparisons: Sequence[Comparison]) -> list[Outcome]:
    """Of every target whose sides were all measured."""
    found = {comparison.work: comparison for comparison in comparisons}
    return [
        _outcome(target, found[target.work]) for target in TARGETS
        if target.work in found and {target.own, *target.rivals} <= {m.side for m in found[target.work].sides}
    ]  # fmt: skip


def _outcome(target: Target, comparison: Comparison) -> Outcome:
    own = comparison.of(target.own)
    if target.memory:
        rival = min(target.rivals, key=lambda side: comparison.of(side).peak)
        other = comparison.of(rival).peak
        return Outcome(target, own.peak, rival, other, own.peak / max(1, other))
    rival = comparison.better(*target.rivals)
    return Outcome(target, own.median, rival, comparison.of(rival).median, comparison.ratio(target.own, rival))


def outcome_table(results: Sequence[Outcome]) -> str:
    """The rows with their limits."""
    rows = [("work", "tinynet", "rival", "", "ratio", "limit", "")]
    for result in results:
        own, other = (
            f"{value / (1 << 20):.0f} MB" if result.target.memory else f"{milliseconds(value)} ms"
            for value in (result.own, result.other)
        )
        verdict = "met" if result.met else "missed"
        rows.append((
            result.target.name, own, result.rival.name, other, f"{result.ratio:.2f}",
            f"≤ {result.target.limit:g}", verdict,
        ))  # fmt: skip
    return aligned(rows, left=1)
