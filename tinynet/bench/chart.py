"""Comparisons, scaling and targets as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tinynet.bench.alternate import Comparison, Measured
from tinynet.bench.machine import Speed
from tinynet.bench.scaling import ALLOWED, Line, Scaling
from tinynet.bench.table import milliseconds
from tinynet.bench.targets import Outcome
from tinynet.bench.works import CHANNELS_LAST, EAGER, FUSED, NCHW, ONNXRUNTIME, TINYNET, TORCH, Side
from tinynet.plot import style

COLOURS = {
    Side(TINYNET, FUSED): style.BLUE, Side(TINYNET, EAGER): style.SKY, Side(TORCH, NCHW): style.ORANGE,
    Side(TORCH, CHANNELS_LAST): style.VERMILION, Side(ONNXRUNTIME): style.PURPLE,
}  # fmt: skip


def speeds(comparisons: Sequence[Comparison], speed: Speed, note: str) -> Figure:
    """Each side's GFLOP/s (its time, where nothing is counted) and peak memory, grouped by work."""
    counted = all(comparison.macs for comparison in comparisons)
    bars: list[tuple[Comparison, Measured]] = [(c, measured) for c in comparisons for measured in c.sides]
    places, heads = _places(comparisons)
    with style.house_style():
        figure = style.new_figure(12, 1.7 + 0.34 * max(places, default=0))
        time, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        values = [c.gflops(m.side) or 0.0 if counted else 1e3 * m.median for c, m in bars]
        texts = [f" {milliseconds(measured.median)} ms" for _, measured in bars]
        _draw_bars(time, places, bars, values, texts)
        time.set_title("Speed: longer is faster" if counted else "Time: shorter is faster")
        time.set_xlabel("GFLOP/s, counted by the definition" if counted else "milliseconds")
        time.set_xlim(0, 1.16 * max([*values, speed.gflops if counted else 0]))
        if counted:
            time.axvline(speed.gflops, color=style.INK, linewidth=1.4, linestyle=(0, (4, 3)))
            time.annotate("fastest product\nmeasured here", (speed.gflops, -0.55), xytext=(4, 0), fontsize=9,
                          textcoords="offset points", color=style.MUTED, va="top")  # fmt: skip
        peaks = [measured.peak / (1 << 20) for _, measured in bars]
        _draw_bars(memory, places, bars, peaks, [f" {peak:.0f}" for peak in peaks])
        memory.set_title("Peak memory")
        memory.set_xlabel("MB beyond the built model")
        memory.set_xlim(0, 1.25 * max([*peaks, 1]))
        time.set_yticks(places, [measured.side.name for _, measured in bars], fontsize=10)
        time.set_ylim(max(places) + 0.7, -0.8)
        for place, comparison in zip(heads, comparisons):
            time.text(0, place, comparison.work.name, fontsize=10.5, fontweight="bold", va="center")
        figure.suptitle(note, fontsize=10.5, color=style.MUTED, x=0.01, ha="left")
    return figure


def _places(comparisons: Sequence[Comparison]) -> tuple[list[float], list[float]]:
    """Where on the vertical axis each bar and each work's heading goes."""
    places, heads, place = [], [], 0.0
    for comparison in comparisons:
        heads.append(place)
        places += [place + 1 + number for number in range(len(comparison.sides))]
        place = places[-1] + 1.4
    return places, heads


def _draw_bars(axes: Any, places: list[float], bars: Any, values: list[float], texts: list[str]) -> None:
    axes.barh(places, values, 0.8, color=[COLOURS[measured.side] for _, measured in bars])
    for place, value, text in zip(places, values, texts):
        shade = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # over a line that crosses it
        axes.text(value, place, text, va="center", fontsize=9.5, bbox=shade)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def scaling_chart(result: Scaling, note: str) -> Figure:
    """Time against each size with the nearest straight line and the band of what is allowed; then the threads."""
    with style.house_style():
        figure = style.new_figure(3.7 * (len(result.lines) + 1), 4.1)
        panels = figure.subplots(1, len(result.lines) + 1)
        for axes, line in zip(panels, result.lines):
            _draw_line(axes, line)
        panels[0].set_ylabel("milliseconds")
        _draw_threads(panels[-1], result)
        figure.suptitle(note, fontsize=10.5, color=style.MUTED, x=0.01, ha="left")
    return figure


def _draw_line(axes: Any, line: Line) -> None:
    reach = np.linspace(0, max(line.sizes) * 1.06, 50)
    straight = 1e3 * np.array([line.at(x) for x in reach])
    axes.fill_between(
        reach, straight * (1 - ALLOWED), straight * (1 + ALLOWED), color=style.FAINT, label=f"± {ALLOWED:.0%}"
    )
    axes.plot(reach, straight, color=style.MUTED, linewidth=1.4, label="straight line")
    axes.plot(line.sizes, [1e3 * y for y in line.seconds], "o", color=style.BLUE, markersize=7, label="measured")
    axes.set_title(f"off by {line.deviation:.1%} at most", fontsize=12)
    axes.set_xlabel(line.title)
    axes.set_xticks(line.sizes, line.labels)
    _thin_out(axes, line)
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    axes.legend(loc="upper left", frameon=False, fontsize=9)


def _thin_out(axes: Any, line: Line) -> None:
    """Leaves out a tick's label where it would touch the one before."""
    last = -1.0
    for size, label in zip(line.sizes, axes.get_xticklabels()):
        if size - last < 0.1 * max(line.sizes) and last >= 0:
            label.set_visible(False)
        else:
            last = size


def _draw_threads(axes: Any, result: Scaling) -> None:
    counts = sorted({threads for _, threads in result.threads})
    batches = sorted({batch for batch, _ in result.threads})
    axes.plot(counts, counts, color=style.MUTED, linewidth=1.4, label="ideal")
    for batch, colour, marker in zip(batches, (style.BLUE, style.VERMILION), "os"):
        gains = [result.speedup(batch, threads) for threads in counts]
        axes.plot(counts, gains, color=colour, marker=marker, label=f"batch {batch}: {gains[-1]:.2f} times")
    axes.set_title("threads", fontsize=12)
    axes.set_xlabel("threads")
    axes.set_ylabel("times as fast as on one")
    axes.set_xticks(counts)
    axes.set_ylim(0, None)
    axes.legend(loc="lower right", frameon=False, fontsize=9)


def targets_chart(results: Sequence[Outcome], note: str) -> Figure:
    """Each target's ratio as a share of its limit: left of the line it is met."""
    places = list(range(len(results)))
    shares = [result.ratio / result.target.limit for result in results]
    with style.house_style():
        figure = style.new_figure(11, 1.6 + 0.42 * len(results))
        axes = figure.subplots()
        colours = [style.BLUE if result.met else style.ORANGE for result in results]
        axes.barh(places, shares, 0.72, color=colours)
        for place, share, result in zip(places, shares, results):
            text = f" {result.ratio:.2f} × {result.rival.name}, limit {result.target.limit:g}"
            beside = share if share < 0.5 else max(share, 1.01)  # not across the line
            axes.text(beside, place, f"{text}{'' if result.met else ': missed'}", va="center", fontsize=9.5)
        axes.axvline(1, color=style.INK, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.set_yticks(places, [result.target.name for result in results], fontsize=10)
        axes.set_ylim(len(results) - 0.4, -0.6)
        axes.set_xlim(0, 1.75 * max([*shares, 1]))
        axes.set_title("tinynet ÷ rival, as a share of the limit")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        figure.suptitle(note, fontsize=10.5, color=style.MUTED, x=0.01, ha="left")
    return figure
