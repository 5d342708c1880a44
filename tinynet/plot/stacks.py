"""Images and feature maps as stacks of plates, the way papers draw pyramids: what is made from what, and where it ends.

After Figure 1 of Lin et al. 2017 (arXiv 1612.03144): a plate is as wide as its map is large, its outline as thick as
its features are strong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon

from tinynet.plot import style

COLUMN, ROW = 1.62, 0.7  # inches between the middles of plates
WIDEST, TALL, SLANT = 1.16, 0.32, 0.18
SHRINK = 0.25  # a plate is as wide as this power of its map's side
THIN, THICK = 0.8, 4.2  # points
IMAGE, MAP_FILL = style.FAINT, "#D5E6F3"
PREDICT = 0.42  # length of the arrow to a prediction
WORDS = 0.62  # room for the word

Place = tuple[float, float]


def stacks(drawings: Mapping[str, Mapping[str, Any]], *, columns: int = 2, title: str = "") -> Figure:
    """Draws groups of stacks of plates, one group for each title, so many of them in a row.

    Args:
        drawings: for each title a dict of

            - `columns`: stacks from left to right, each a dict with the plates from bottom to top: for each name the
              side of the map in pixels and the strength of its features; strength 0 is an image. Names are unique
              within a drawing.
            - `arrows`: pairs of names, (from, to).
            - `predicts`: names of the plates from which something is predicted (may be missing).

    Raises:
        ValueError: no drawing, a drawing without plates, a name that occurs twice, an arrow or a prediction of none.
    """
    if not drawings:
        raise ValueError("stacks: there is nothing to draw")
    for name, drawing in drawings.items():
        _check(name, drawing)
    strongest = max(strength for each in drawings.values() for column in each["columns"]
                    for _, strength in column.values())  # fmt: skip
    columns = min(columns, len(drawings))
    rows = math.ceil(len(drawings) / columns)
    width = max(map(_width, drawings.values()))
    height = max(len(column) for each in drawings.values() for column in each["columns"]) * ROW
    with style.house_style():
        figure = style.new_figure(columns * width, rows * (height + 0.45) + 0.4 * bool(title))
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in grid:
            axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
            axes.axis("off")
        for axes, (name, drawing) in zip(grid, drawings.items()):
            axes.set_title(name, fontsize=10.5, pad=4)
            _draw(axes, drawing, max(strongest, 1e-12))
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _check(name: str, drawing: Mapping[str, Any]) -> None:
    plates = [plate for column in drawing["columns"] for plate in column]
    if not plates or len(set(plates)) < len(plates):
        raise ValueError(f"stacks: {name!r} needs plates with different names, got {plates}")
    used = {plate for arrow in drawing["arrows"] for plate in arrow} | set(drawing.get("predicts", ()))
    if unknown := used - set(plates):
        raise ValueError(f"stacks: {name!r} has no plate {sorted(unknown)}, only {plates}")


def _width(drawing: Mapping[str, Any]) -> float:
    return COLUMN * len(drawing["columns"]) + (PREDICT + WORDS) * bool(drawing.get("predicts"))


def _draw(axes: Axes, drawing: Mapping[str, Any], strongest: float) -> None:
    places: dict[str, Place] = {}
    halves: dict[str, float] = {}
    for number, column in enumerate(drawing["columns"]):
        largest = max(side for side, _ in column.values())
        for row, (name, (side, strength)) in enumerate(column.items()):
            places[name] = (COLUMN * (number + 0.5), ROW * (row + 0.5))
            halves[name] = WIDEST / 2 * (side / largest) ** SHRINK
            _draw_plate(axes, places[name], halves[name], strength / strongest, f"{name}\n{side:g}×{side:g}")
    for source, target in drawing["arrows"]:
        _draw_arrow(axes, *_ends(places[source], halves[source], places[target], halves[target]))
    for name in drawing.get("predicts", ()):
        x, y = places[name]
        start = x + halves[name] + SLANT / 2
        _draw_arrow(axes, (start, y), (start + PREDICT, y))
        axes.text(start + PREDICT + 0.05, y, "predict", va="center", fontsize=8.5)


def _draw_plate(axes: Axes, place: Place, half: float, strength: float, text: str) -> None:
    """A map seen from above and the side, with its text on it."""
    (x, y), lean, up = place, SLANT / 2, TALL / 2
    corners = [(x - half - lean, y - up), (x + half - lean, y - up), (x + half + lean, y + up),
               (x - half + lean, y + up)]  # fmt: skip
    axes.add_patch(
        Polygon(
            corners, closed=True, facecolor=MAP_FILL if strength else IMAGE,
            edgecolor=style.BLUE if strength else style.MUTED, linewidth=THIN + (THICK - THIN) * strength,
            joinstyle="miter", zorder=2,
        )
    )  # fmt: skip
    axes.text(x, y, text, ha="center", va="center", fontsize=7.5, linespacing=1.1, zorder=3)


def _ends(source: Place, source_half: float, target: Place, target_half: float) -> tuple[Place, Place]:
    """Where an arrow begins and ends: upright within a stack, from edge to edge between stacks."""
    (x, y), (to_x, to_y) = source, target
    if x == to_x:
        up = 1 if to_y > y else -1
        return (x, y + up * (TALL / 2 + 0.03)), (to_x, to_y - up * (TALL / 2 + 0.03))
    side = 1 if to_x > x else -1
    return (x + side * (source_half + SLANT / 4), y), (to_x - side * (target_half + SLANT / 4), to_y)


def _draw_arrow(axes: Axes, start: Place, end: Place) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, linewidth=1.1, color=style.MUTED,
                                   shrinkA=0, shrinkB=0, zorder=1))  # fmt: skip
