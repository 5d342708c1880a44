"""What a backbone and its pyramid make of a photo: one map per level, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from tinynet.plot import style

CHANNELS = 4  # of each level, shown one by one
EXPLANATION = (
    "Large maps: root mean square of all channels at each position. Small maps: the {} channels that vary most, "
    "with their numbers. Light is strong; every map has its own scale."
)
MARGIN = 0.36  # inches for the title, and for the explanation


def features(
    photo: Any, levels: Sequence[Mapping[str, np.ndarray]], title: str = "", notes: Sequence[str] = ()
) -> Figure:
    """Draws feature maps beside the photo that they come from, one row per element of `levels`.

    Args:
        photo: (H, W, 3) bytes, or what NumPy makes that of (a Pillow image).
        levels: for each row, maps (C, h, w) by name, such as C2 to C5 in one row and P2 to P5 in the next.
        notes: for each row after the first a text at its left, such as where its weights come from; "" for none.

    Raises:
        ValueError: no map, or one that is not (C, h, w).
    """
    pixels = np.asarray(photo)
    for name, values in (item for row in levels for item in row.items()):
        if values.ndim != 3 or values.size == 0:
            raise ValueError(f"features: map {name} must have shape (C, h, w), got {values.shape}")
    columns = max((len(row) for row in levels), default=0)
    if columns == 0:
        raise ValueError("features: there is no map to draw")
    height, width = pixels.shape[:2]
    cell = 2.5 * min(1.35, max(0.55, height / width))
    tall = len(levels) * (cell + 1.3)
    with style.house_style():
        figure = style.new_figure(2.5 * (columns + 1) + 0.3, tall + 2 * MARGIN)
        heights = (MARGIN, *[tall / len(levels)] * len(levels), MARGIN)
        heading, *rows, footer = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for number, (part, row) in enumerate(zip(rows, levels)):
            first, *others = part.subfigures(1, columns + 1, squeeze=False)[0]
            if number == 0:
                _draw_photo(first, pixels)
            elif number - 1 < len(notes):
                first.text(0.04, 0.93, notes[number - 1], va="top", ha="left", fontsize=9, linespacing=1.4)
            for place, (name, values) in zip(others, row.items()):
                _draw_level(place, name, values, height)
        heading.text(0.01, 0.5, title, fontsize=12, color=style.MUTED, va="center")
        footer.text(0.01, 0.5, EXPLANATION.format(CHANNELS), fontsize=8.5, color=style.MUTED, va="center")
    return figure


def _draw_photo(figure: SubFigure, pixels: np.ndarray) -> None:
    picture, below = figure.subplots(2, 1, height_ratios=(3.4, 1))
    picture.imshow(pixels)
    picture.set_title(f"input\n{pixels.shape[0]}×{pixels.shape[1]}", fontsize=10.5)
    for axes in (picture, below):
        axes.axis("off")


def _draw_level(figure: SubFigure, name: str, values: np.ndarray, height: int) -> None:
    channels, rows, columns = values.shape
    grid = figure.add_gridspec(2, CHANNELS, height_ratios=(3.4, 1))
    large = figure.add_subplot(grid[0, :])
    stride = round(height / rows)
    large.set_title(f"{name}  {rows}×{columns}, stride {stride}\n{channels:,} channels", fontsize=10.5)
    _show(large, np.sqrt(np.mean(np.square(values.astype(np.float64)), axis=0)))
    strongest = np.argsort(-values.reshape(channels, -1).std(axis=1), kind="stable")[:CHANNELS]
    for place, channel in enumerate(np.sort(strongest)):
        small = figure.add_subplot(grid[1, place])
        _show(small, values[channel])
        small.set_title(f"{channel}", fontsize=7, fontweight="normal", loc="center", pad=2, color=style.MUTED)


def _show(axes: Any, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    axes.imshow(values, cmap=style.MAP, vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
    axes.axis("off")
