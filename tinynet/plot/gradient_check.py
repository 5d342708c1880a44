"""Finite differences as pictures: their error against the step, and backward against them, number by number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinynet.plot import style

REACH = 3.5  # decades that a guide line covers
SEVERAL = len(style.COLOURS)  # columns that still get a colour each


def step_sizes(
    steps: Any, errors: Mapping[str, Any], guides: Sequence[tuple[int, float, float]] = (), title: str = "",
    y: str = "relative error of the slope",
) -> Figure:  # fmt: skip
    """The error of a finite difference against its step, with straight lines that show how steep the curves are.

    Args:
        steps: (n,) positive numbers.
        errors: for each name (n,) errors; what is 0 or not finite is left out.
        guides: lines `error ∝ step^exponent`, each (exponent, step, error) through the middle of the line.
        y: what the errors are.

    Raises:
        ValueError: no curve, or one with another number of errors than steps.
    """
    steps = np.asarray(steps, np.float64)
    if not errors or any(np.shape(values) != steps.shape for values in errors.values()):
        raise ValueError(f"step_sizes: needs curves of {len(steps)} errors each, one for every step")
    with style.house_style():
        figure = style.new_figure(7.4, 4.6)
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for number, (name, values) in enumerate(errors.items()):
            shown = np.asarray(values, np.float64)
            shown = np.where(np.isfinite(shown) & (shown > 0), shown, np.nan)
            axes.plot(steps, shown, color=style.COLOURS[number], marker=style.MARKERS[number], markersize=5,
                      linestyle=style.DASHES[number % len(style.DASHES)], label=name)  # fmt: skip
        axes.set_ylim(axes.get_ylim())  # the guides do not widen the picture
        for exponent, step, error in guides:
            _draw_guide(axes, exponent, step, error)
        axes.invert_xaxis()
        axes.set_xlabel("step (smaller to the right)")
        axes.set_ylabel(y)
        axes.set_title(title)
        figure.legend(frameon=False, loc="outside lower left", ncols=3, fontsize=10)
    return figure


def _draw_guide(axes: Axes, exponent: int, step: float, error: float) -> None:
    ends = step * 10.0 ** np.array([-REACH / 2, REACH / 2])
    heights = error * (ends / step) ** exponent
    axes.plot(ends, heights, color=style.MUTED, linewidth=1.3, linestyle=(0, (2, 2)))
    text = {1: "∝ step", 2: "∝ step²", -1: "∝ 1 / step"}.get(exponent, f"∝ step^{exponent}")
    lowest = int(heights.argmin())
    axes.annotate(text, (ends[lowest], heights[lowest]), (0, -4), textcoords="offset points", color=style.MUTED,
                  fontsize=10, ha="center", va="top")  # fmt: skip


def agreement(gradients: Mapping[str, tuple[Any, Any]], columns: int = 4, title: str = "") -> Figure:
    """What backward says against what finite differences say, a panel for each name and a point for each number.

    Points on the diagonal agree. The columns of a matrix have colours and markers of their own.

    Args:
        gradients: for each name (backward's, the finite difference's), two arrays of one shape.
        columns: panels side by side.

    Raises:
        ValueError: no panel, or arrays of different shapes.
    """
    pairs = {name: (np.asarray(one, np.float64), np.asarray(two, np.float64)) for name, (one, two) in gradients.items()}
    if not pairs:
        raise ValueError("agreement: there is no gradient to draw")
    for name, (analytic, numeric) in pairs.items():
        if analytic.shape != numeric.shape:
            raise ValueError(f"agreement: {name!r} has gradients of shapes {analytic.shape} and {numeric.shape}")
    columns = min(columns, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    with style.house_style():
        figure = style.new_figure(2.3 * columns + 0.5, 2.45 * rows + 0.4 + 0.4 * bool(title))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in list(grid.flat)[len(pairs) :]:
            axes.axis("off")
        for axes, (name, (analytic, numeric)) in zip(grid.flat, pairs.items()):
            _draw_agreement(axes, name, analytic, numeric)
        figure.supxlabel("finite difference", fontsize=10.5)
        figure.supylabel("backward", fontsize=10.5)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _draw_agreement(axes: Axes, name: str, analytic: np.ndarray, numeric: np.ndarray) -> None:
    reach = 1.15 * max(float(np.abs(analytic).max(initial=0)), float(np.abs(numeric).max(initial=0)), 1e-300)
    axes.plot([-reach, reach], [-reach, reach], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    matrix = analytic.ndim > 1 and analytic.shape[-1] <= SEVERAL
    count = analytic.shape[-1] if matrix else 1
    for column, (up, across) in enumerate(zip(analytic.reshape(-1, count).T, numeric.reshape(-1, count).T)):
        axes.plot(across, up, linestyle="", marker=style.MARKERS[column], color=style.COLOURS[column], markersize=6,
                  markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
    axes.set_title(name, fontsize=10.5, pad=5)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.locator_params(nbins=3)
    axes.tick_params(labelsize=8)
