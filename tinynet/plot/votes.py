"""Where the cells of a feature map believe the centre of their object to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure

from tinynet.plot import style


def votes(image: Any, panels: Mapping[str, tuple[Any, Any]], centres: Any, title: str = "") -> Figure:
    """Draws points on an image, right ones as circles and wrong ones as crosses, a panel for each name.

    Args:
        image: (H, W), grey.
        panels: for each name its points (n, 2), x and y in pixels, and which of them are right (n,).
        centres: (m, 2), the true places, drawn as large white plus signs.

    Raises:
        ValueError: no panel, or lengths that do not agree.
    """
    pixels, places = np.asarray(image), np.asarray(centres, np.float64).reshape(-1, 2)
    if not panels or pixels.ndim != 2:
        raise ValueError(f"votes: {len(panels)} panels on an image of shape {pixels.shape}; it must be (H, W)")
    height, width = pixels.shape
    halo = [patheffects.withStroke(linewidth=4, foreground="black")]
    with style.house_style():
        figure = style.new_figure(3.5 * len(panels), 3.5 * height / width + 0.8)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, (points, right)) in zip(grid, panels.items()):
            points, right = np.asarray(points, np.float64).reshape(-1, 2), np.asarray(right, bool)
            if right.shape != points.shape[:1]:
                raise ValueError(f"votes: {name!r} has {len(points)} points and {right.shape} for what is right")
            axes.imshow(pixels, cmap="gray", extent=(0, width, height, 0), interpolation="nearest")
            axes.scatter(*points[~right].T, s=16, marker="x", linewidths=1.1, color=style.ORANGE, label="wrong")
            axes.scatter(*points[right].T, s=14, marker="o", facecolors="none", linewidths=1.1, color=style.SKY,
                         label="right")  # fmt: skip
            axes.plot(*places.T, "+", color="white", markersize=11, markeredgewidth=2, path_effects=halo,
                      label="true centre")  # fmt: skip
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.axis("off")
            axes.set_title(name, fontsize=10.5, pad=4)
        handles, names = grid[0].get_legend_handles_labels()
        legend = figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=True, fontsize=9.5,
                               facecolor="#8A8A8A", edgecolor="none", labelcolor="white")  # fmt: skip
        legend.set_in_layout(True)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure
