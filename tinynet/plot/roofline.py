"""The roofline: how fast work can be at best, given what it computes for every byte that it moves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from tinynet.plot import style


def roofline(points: Mapping[str, tuple[float, float]], peak: float, bandwidth: float, title: str = "") -> Figure:
    """Speed against arithmetic intensity, below the roof min(peak, bandwidth · intensity).

    Source: Williams, Waterman and Patterson 2009, "Roofline: An Insightful Visual Performance Model".

    Args:
        points: for each name (FLOP per byte, GFLOP/s).
        peak: of the machine's computing, in GFLOP/s.
        bandwidth: of its memory, in GB/s.

    Raises:
        ValueError: no point, or a number that is not above 0.
    """
    numbers = [number for point in points.values() for number in point] + [peak, bandwidth]
    if not points or not all(np.isfinite(number) and number > 0 for number in numbers):
        raise ValueError("roofline: needs at least one point, and numbers above 0")
    intensities = [intensity for intensity, _ in points.values()]
    corner = peak / bandwidth
    low, high = 0.5 * min(*intensities, corner), 4 * max(*intensities, corner)
    floor = 0.4 * min(bandwidth * low, *(speed for _, speed in points.values()))
    with style.house_style():
        figure = style.new_figure(7.6, 4.8)
        axes = figure.subplots()
        reach = np.geomspace(low, high, 200)
        roof = np.minimum(peak, bandwidth * reach)
        axes.fill_between(reach, floor, roof, color=style.FAINT, linewidth=0, zorder=0)
        axes.plot(reach, roof, color=style.INK, linewidth=1.8)
        axes.axvline(corner, color=style.MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(f"computing: {peak:.0f} GFLOP/s", (high, peak), (-4, 5), textcoords="offset points", ha="right",
                      fontsize=9.5, color=style.INK)  # fmt: skip
        middle = (low * corner) ** 0.5
        axes.annotate(f"memory: {bandwidth:.0f} GB/s", (middle, bandwidth * middle), (-5, 5), ha="right",
                      textcoords="offset points", fontsize=9.5, color=style.INK)  # fmt: skip
        for number, (name, (intensity, speed)) in enumerate(points.items()):
            axes.plot(intensity, speed, linestyle="", marker=style.MARKERS[number % len(style.MARKERS)], markersize=10,
                      color=style.COLOURS[number % len(style.COLOURS)], label=name, zorder=3,
                      markeredgecolor=style.INK, markeredgewidth=0.7)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(floor, 2.2 * max(peak, *(speed for _, speed in points.values())))
        axes.set_xlabel("arithmetic intensity: FLOP for every byte to or from memory")
        axes.set_ylabel("GFLOP/s")
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure
