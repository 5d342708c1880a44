"""Comparisons in text: a table to read, and CSV to compute with."""

from __future__ import annotations

import csv
import io
import os
import statistics
from collections.abc import Sequence

from tinynet.bench.alternate import Comparison, Measured
from tinynet.bench.machine import Speed
from tinynet.bench.works import EAGER, FUSED, TINYNET, TORCH_SIDES, Side
from tinynet.utils.atomic import atomic_write

OURS = (Side(TINYNET, FUSED), Side(TINYNET, EAGER))
HEAD = ("work", "engine", "ms", "images/s", "GFLOP/s", "share", "peak MB")
CSV_COLUMNS = (
    "model", "task", "batch", "height", "width", "engine", "variant", "threads", "rounds", "median_seconds",
    "lower_quartile", "upper_quartile", "images_per_second", "gflops", "share", "peak_bytes", "fused_over_this",
    "eager_over_this",
)  # fmt: skip


def table(comparisons: Sequence[Comparison], speed: Speed) -> str:
    """One row per side; the last columns say how tinynet's time compares with that side's (below 1: faster)."""
    ours = [side for side in OURS if any(_beside(c, side) for c in comparisons)]
    rows = [(*HEAD, *(f"{side.variant} ÷ it" for side in ours))]
    for comparison in comparisons:
        for number, measured in enumerate(comparison.sides):
            name = comparison.work.name if number == 0 else ""
            ratios = (_ratio(comparison, side, measured.side) for side in ours)
            rows.append((name, measured.side.name, *_numbers(comparison, measured, speed), *ratios))
    return aligned(rows, left=2)


def conclusions(comparisons: Sequence[Comparison]) -> list[str]:
    """In words: tinynet against the better of torch's two memory layouts, and against the others."""
    lines = []
    for comparison in comparisons:
        sides = [measured.side for measured in comparison.sides]
        layouts = [side for side in sides if side in TORCH_SIDES]
        best = comparison.better(*layouts) if layouts else None
        for own in (side for side in OURS if side in sides):
            for rival in (side for side in sides if side not in OURS and (side == best or side not in layouts)):
                note = ", its better layout" if len(layouts) > 1 and rival == best else ""
                lines.append(
                    f"{comparison.work.name}: {own.name} takes {comparison.ratio(own, rival):.2f} of the time of "
                    f"{rival.name}{note}"
                )
    return lines


def aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows of text in columns, the first `left` of them flush left; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column < left else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]  # fmt: skip
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:]])


def milliseconds(seconds: float) -> str:
    """Three digits: 4.51, 45.1, 451."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def write_csv(comparisons: Sequence[Comparison], speed: Speed, path: str | os.PathLike[str]) -> None:
    """One line per side of every comparison. Raises OSError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        work = comparison.work
        for measured in comparison.sides:
            gflops = comparison.gflops(measured.side)
            quartiles = statistics.quantiles(measured.seconds, n=4)
            writer.writerow((
                work.model, work.task, work.batch, *work.size, measured.side.engine, measured.side.variant,
                measured.threads, len(measured.seconds), f"{measured.median:.6g}", f"{quartiles[0]:.6g}",
                f"{quartiles[2]:.6g}", f"{work.batch / measured.median:.6g}" if comparison.macs else "",
                "" if gflops is None else f"{gflops:.6g}", "" if gflops is None else f"{gflops / speed.gflops:.4g}",
                measured.peak, *(_ratio(comparison, side, measured.side, "{:.4f}") for side in OURS),
            ))  # fmt: skip
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _numbers(comparison: Comparison, measured: Measured, speed: Speed) -> tuple[str, ...]:
    gflops = comparison.gflops(measured.side)
    return (
        milliseconds(measured.median),
        f"{comparison.work.batch / measured.median:.1f}" if gflops else "",
        f"{gflops:.0f}" if gflops else "",
        f"{gflops / speed.gflops:.0%}" if gflops else "",
        f"{measured.peak / (1 << 20):.0f}",
    )


def _beside(comparison: Comparison, side: Side) -> bool:
    """Whether it has this side and another that is not tinynet's."""
    sides = [measured.side for measured in comparison.sides]
    return side in sides and any(other not in OURS for other in sides)


def _ratio(comparison: Comparison, own: Side, other: Side, form: str = "{:.2f}") -> str:
    if other in OURS or not _beside(comparison, own):
        return ""
    return form.format(comparison.ratio(own, other))
