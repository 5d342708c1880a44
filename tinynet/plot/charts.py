"""Plain charts for any numbers: curves, bars, images side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tinynet.plot import style

MARKED = 40  # points of a curve that still get a marker each
BAR = 0.34  # inches


def lines(curves: Mapping[str, tuple[Any, Any]], *, x: str = "", y: str = "", log: str = "", title: str = "") -> Figure:
    """Curves in one picture, told apart by colour, dashes and markers.

    Args:
        curves: for each name its points, `(xs, ys)`. With `ys` of shape (runs, n) the mean is drawn, and the
            range from lowest to highest behind it. Points that are not finite are left out.
        x, y: what the axes show, with units.
        log: the logarithmic axes: "", "x", "y" or "xy".

    Raises:
        ValueError: no curve, or one whose xs and ys differ in length.
    """
    if not curves:
        raise ValueError("lines: there is no curve to draw")
    with style.house_style():
        figure = style.new_figure(7.2, 4.3)
        axes = figure.subplots()
        for number, (name, (xs, ys)) in enumerate(curves.items()):
            _draw_curve(axes, number, name, np.asarray(xs, np.float64), np.atleast_2d(np.asarray(ys, np.float64)))
        if "x" in log:
            axes.set_xscale("log")
            _mark_short(axes.xaxis)
        if "y" in log:
            axes.set_yscale("log")
            _mark_short(axes.yaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_title(title)
        if len(curves) > 3:  # too much to find a place for among the curves
            figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=10)
        elif len(curves) > 1:
            axes.legend(frameon=False)
    return figure


def _mark_short(axis: Axis) -> None:
    """A logarithmic axis of less than two decades gets numbers at 1, 2 and 5, not at powers of ten alone."""
    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _draw_curve(axes: Axes, number: int, name: str, xs: np.ndarray, runs: np.ndarray) -> None:
    if xs.ndim != 1 or runs.ndim != 2 or runs.shape[1] != len(xs):
        raise ValueError(f"lines: {name!r} has xs of shape {xs.shape} and ys of shape {runs.shape}")
    colour = style.COLOURS[number % len(style.COLOURS)]
    marker = style.MARKERS[number % len(style.MARKERS)] if len(xs) <= MARKED else None
    if len(runs) > 1:
        axes.fill_between(xs, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(xs, runs.mean(axis=0), color=colour, linestyle=style.DASHES[number % len(style.DASHES)],
              marker=marker, markersize=5, label=name)  # fmt: skip


def bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]], *, unit: str = "", log: bool = False,
    title: str = "",
) -> Figure:  # fmt: skip
    """Horizontal bars with their numbers, one for each name, or a group of them for each name.

    Args:
        values: numbers by name; or by group and name, each group with the same names.
        unit: of the numbers.
        log: a logarithmic scale.

    Raises:
        ValueError: no value, or groups with different names.
    """
    groups = {name: value if isinstance(value, Mapping) else {"": value} for name, value in values.items()}
    series = list(next(iter(groups.values()), {}))
    if not series or any(list(group) != series for group in groups.values()):
        raise ValueError("bars: needs at least one value, and the same names in every group")
    thick = 0.8 / len(series)
    with style.house_style():
        figure = style.new_figure(7.2, 1.3 + len(groups) * max(BAR * len(series), 0.42) + 0.3 * (len(series) > 1))
        axes = figure.subplots()
        if log:
            axes.set_xscale("log")
        for place, name in enumerate(series):
            at = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * thick
            widths = [group[name] for group in groups.values()]
            axes.barh(at, widths, thick * 0.9, color=style.COLOURS[place % len(style.COLOURS)], label=name)
            for height, width in zip(at, widths):
                axes.annotate(_number(width), (width, height), (4, 0), textcoords="offset points", va="center",
                              fontsize=9.5)  # fmt: skip
        axes.set_yticks(range(len(groups)), list(groups))
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.margins(x=0.14)
        axes.set_xlabel(unit)
        axes.set_title(title)
        if len(series) > 1:
            figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=10)
    return figure


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def images(
    arrays: Sequence[Any], titles: Sequence[str] = (), *, columns: int = 4, same_scale: bool = False, title: str = ""
) -> Figure:
    """Images or maps side by side, each value a visible square.

    Args:
        arrays: each (H, W), light where large; or (H, W, 3), bytes or floats in [0, 1].
        titles: one for each image, or none.
        same_scale: whether one scale of brightness holds for all maps; else each has its own.

    Raises:
        ValueError: no image, another number of titles, or a wrong shape.
    """
    shown = [np.asarray(array) for array in arrays]
    if not shown or (titles and len(titles) != len(shown)):
        raise ValueError(f"images: {len(shown)} images and {len(titles)} titles")
    for array in shown:
        if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
            raise ValueError(f"images: an image is (H, W) or (H, W, 3), got {array.shape}")
    maps = [array for array in shown if array.ndim == 2]
    scale = {"vmin": min(map(np.min, maps)), "vmax": max(map(np.max, maps))} if same_scale and maps else {}
    columns = min(columns, len(shown))
    rows = math.ceil(len(shown) / columns)
    cell = min(2.4, 10.0 / columns)
    high = min(1.0, max(array.shape[0] / array.shape[1] for array in shown))  # a wide image needs no square
    with style.house_style():
        figure = style.new_figure(cell * columns, (cell * high + 0.35 * bool(titles)) * rows + 0.4 * bool(title))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, array, text in zip(grid.flat, shown, titles or [""] * len(shown)):
            axes.imshow(array, cmap=style.MAP, interpolation="nearest", **(scale if array.ndim == 2 else {}))
            axes.set_title(text, fontsize=9.5, fontweight="normal", pad=4)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure
