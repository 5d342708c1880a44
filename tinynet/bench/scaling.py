"""Whether time grows as it should: in a straight line with batch, image area and depth, and less with threads.

Points of a line are compared with each other as they are, not in pairs, so each is the fastest of its turns: what
else the machine does can only slow one down.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinynet.bench import works
from tinynet.bench.alternate import Turns, Worker, take_turns
from tinynet.bench.works import TINYNET, Side, Work

BATCHES = (1, 2, 4, 8, 16)
IMAGE_SIDES = (112, 160, 224, 320, 448)
BLOCKS = (2, 6, 12, 23)  # of the third stage: 12 to 33 in all, where ResNet-50 has 16 and ResNet-101 has 33
OTHER_BLOCKS = 10  # of the other three stages
ALLOWED = 0.15  # from the straight line


@dataclass(frozen=True)
class Line:
    """Time against one size, and the straight line nearest to all points (least squares of relative distances)."""

    title: str
    sizes: tuple[float, ...]
    labels: tuple[str, ...]
    seconds: tuple[float, ...]
    intercept: float
    slope: float

    @property
    def deviation(self) -> float:
        """The largest distance of a point from the line, relative to the point."""
        return max(abs(self.at(x) - y) / y for x, y in zip(self.sizes, self.seconds))

    def at(self, size: float) -> float:
        """Seconds on the line."""
        return self.intercept + self.slope * size


@dataclass(frozen=True)
class Scaling:
    """What `scaling` measured. `threads` maps (batch, number of threads) to seconds."""

    side: Side
    task: str
    lines: tuple[Line, ...]
    threads: dict[tuple[int, int], float]

    def speedup(self, batch: int, threads: int) -> float:
        """How many times faster than on one thread."""
        return self.threads[batch, 1] / self.threads[batch, threads]


def line_through(title: str, sizes: Sequence[float], labels: Sequence[str], seconds: Sequence[float]) -> Line:
    """The points and the line through them."""
    y = np.array(seconds)
    matrix = np.stack([np.ones(len(y)), np.array(sizes, float)], axis=1) / y[:, None]
    intercept, slope = np.linalg.lstsq(matrix, np.ones(len(y)), rcond=None)[0]
    return Line(title, tuple(sizes), tuple(labels), tuple(seconds), float(intercept), float(slope))


def scaling(
    base: Work, side: Side, *, threads: int, seconds: float, tell: Callable[[str], None] = lambda text: None,
    batches: Sequence[int] = BATCHES, image_sides: Sequence[int] = IMAGE_SIDES, blocks: Sequence[int] = BLOCKS,
) -> Scaling:  # fmt: skip
    """Times `side` on variations of `base`, taking turns in one process; `blocks` only where it is resnet50."""
    by_batch = [replace(base, batch=batch) for batch in batches]
    by_area = [replace(base, size=(image_side, image_side)) for image_side in image_sides]
    by_depth = [replace(base, blocks=count) for count in blocks] if base.model == "resnet50" else []
    counts = sorted({1, threads})
    threaded = [(work, count) for work in (base, replace(base, batch=8)) for count in counts]
    asked = [*((work, threads) for work in [*by_batch, *by_area, *by_depth]), *threaded]
    wanted = list(dict.fromkeys(asked))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tinynet-bench-"))
        worker = stack.enter_context(Worker(TINYNET, threads))
        for work in dict.fromkeys(work for work, _ in wanted):
            tell(f"{work.name} gets ready")
            worker.ask("prepare", key=work.name, side=[side.engine, side.variant], work=works.as_request(work),
                       threads=threads, result=str(Path(folder) / "result.npz"))  # fmt: skip
        jobs = [Turns(worker, {"key": work.name, "threads": count}) for work, count in wanted]
        turns = take_turns(jobs, seconds, tell)
    time = {point: min(taken) for point, taken in zip(wanted, turns)}
    lines = [
        line_through("batch", batches, [str(n) for n in batches], [time[work, threads] for work in by_batch]),
        line_through(
            "image area, pixels", [n * n for n in image_sides], [f"{n}²" for n in image_sides],
            [time[work, threads] for work in by_area],
        ),
    ]  # fmt: skip
    if by_depth:
        depths = [OTHER_BLOCKS + count for count in blocks]
        lines.append(line_through("residual blocks", depths, [str(n) for n in depths],
                                  [time[work, threads] for work in by_depth]))  # fmt: skip
    return Scaling(side, base.task, tuple(lines), {(work.batch, count): time[work, count] for work, count in threaded})
