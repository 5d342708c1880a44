"""Which cells of which level answer for which object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from tinynet.plot import style

COLOURS = (style.SKY, style.ORANGE, style.GREEN, style.PURPLE)  # bright ones, on dark images


def assignment(image: Any, levels: Mapping[str, tuple[float, Any, Any]], title: str = "") -> Figure:
    """Draws boxes in the colour of their level, and the level's cells that answer for them as squares.

    Args:
        image: (H, W), grey.
        levels: for each name its stride, the centres of the cells (n, 2), x and y in pixels, and the boxes (m, 4).

    Raises:
        ValueError: no level, or an image of another shape.
    """
    pixels = np.asarray(image)
    if not levels or pixels.ndim != 2:
        raise ValueError(f"assignment: {len(levels)} levels on an image of shape {pixels.shape}; it must be (H, W)")
    height, width = pixels.shape
    handles = []
    with style.house_style():
        figure = style.new_figure(6.4, 6.4 * height / width + 0.8)
        axes = figure.subplots()
        axes.imshow(pixels, cmap="gray", extent=(0, width, height, 0), interpolation="nearest")
        axes.axis("off")
        for number, (name, (stride, centres, boxes)) in enumerate(levels.items()):
            colour = COLOURS[number % len(COLOURS)]
            cells, objects = np.reshape(np.asarray(centres, float), (-1, 2)), np.reshape(np.asarray(boxes), (-1, 4))
            for x, y in cells:
                axes.add_patch(Rectangle((x - stride / 2, y - stride / 2), stride, stride, facecolor=colour, alpha=0.4,
                                         edgecolor="white", linewidth=0.8))  # fmt: skip
            for x0, y0, x1, y1 in objects:
                axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=2.4))
            size = f"{stride:g}×{stride:g}"
            text = f"{name}: {_counted(len(objects), 'object')}, {_counted(len(cells), 'cell')} of {size}"
            handles.append(Patch(facecolor=colour, label=text))
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9.5)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
