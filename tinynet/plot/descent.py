"""Where a descent goes: points on the map of a function of two numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinynet.plot import style

GRID = 200  # points along each axis of the map
LEVELS = 14  # contour lines
MARGIN = 0.08  # of the width and height, around the paths


def descent(
    function: Callable[[Any, Any], Any], paths: Mapping[str, tuple[Any, Any]], *, x: str = "", y: str = "",
    title: str = "",
) -> Figure:  # fmt: skip
    """Paths over the contour lines of `function`, each from a circle to a cross.

    Args:
        function: takes two arrays of one shape, gives the heights as an array of that shape.
        paths: for each name the coordinates `(xs, ys)` of its points, in order.
        x, y: what the axes show.

    Raises:
        ValueError: no path, or one whose xs and ys are not two equally long rows of finite numbers.
    """
    if not paths:
        raise ValueError("descent: there is no path to draw")
    arrays = {name: _points(name, *coordinates) for name, coordinates in paths.items()}
    with style.house_style():
        figure = style.new_figure(7.2, 4.3)
        axes = figure.subplots()
        _draw_map(axes, function, np.concatenate([*arrays.values()], axis=1))
        for number, (name, (xs, ys)) in enumerate(arrays.items()):
            colour = style.COLOURS[number % len(style.COLOURS)]
            axes.plot(xs, ys, color=colour, linestyle=style.DASHES[number % len(style.DASHES)],
                      marker=style.MARKERS[number % len(style.MARKERS)], markersize=3.5, linewidth=1.6,
                      label=name)  # fmt: skip
            axes.plot(xs[:1], ys[:1], "o", color=colour, markersize=9, markerfacecolor="none")
            axes.plot(xs[-1:], ys[-1:], "X", color=colour, markersize=9, markeredgecolor="white")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_title(title)
        axes.grid(False)
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def _points(name: str, xs: Any, ys: Any) -> np.ndarray:
    xs, ys = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape or xs.size == 0 or not np.isfinite([xs, ys]).all():
        raise ValueError(f"descent: {name!r} needs finite xs and ys of one length, got {xs.shape} and {ys.shape}")
    return np.stack([xs, ys])


def _draw_map(axes: Axes, function: Callable[[Any, Any], Any], points: np.ndarray) -> None:
    """Contour lines around all points, denser near the lowest place."""
    low, high = points.min(axis=1), points.max(axis=1)
    margin = MARGIN * np.maximum(high - low, 1e-9)
    grid = np.meshgrid(*(np.linspace(*ends, GRID) for ends in zip(low - margin, high + margin)))
    heights = np.asarray(function(*grid), np.float64)
    bottom, top = float(heights.min()), float(heights.max())
    levels = bottom + (top - bottom) * np.linspace(0, 1, LEVELS + 1)[1:] ** 2
    axes.contour(*grid, heights, levels=levels, colors="#C9C9C9", linewidths=0.9, zorder=0)
