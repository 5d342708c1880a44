"""The ways through a feature pyramid: bottom-up, lateral, top-down, with what is left of them in an ablation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from tinynet.plot import style

COLUMN, ROW = 1.75, 1.0  # inches between the centres of boxes
BOX = (1.12, 0.5)  # width and height
JOIN = 0.12  # radius of the circle where two ways meet
PLAIN, MARKED = "#E8EEF3", style.ORANGE
HEADINGS = ("backbone", "merged", "pyramid")


class Ways(NamedTuple):
    """Which connections a pyramid has, and which boxes are marked."""

    lateral: bool = True
    top_down: bool = True
    marked: Collection[str] = ()


def pathways(
    sizes: Mapping[str, tuple[int, int]], variants: Mapping[str, Mapping[str, Any]], title: str = ""
) -> Figure:
    """Draws a pyramid: backbone maps C at the left, merged maps M, pyramid levels P at the right, coarsest on top.

    Args:
        sizes: height and width of each level, finest first, by number: {"2": (32, 32), "3": (16, 16)}.
        variants: pyramids to draw side by side. For each title what it differs in from an FPN: `lateral` or `top_down`
            False where those connections are missing, and `marked`, the boxes in another colour (["C4", "P3"]).

    Raises:
        ValueError: no level, no variant, or a mark for a box that is not drawn.
    """
    if not sizes or not variants:
        raise ValueError(f"pathways: {len(sizes)} levels and {len(variants)} variants; at least one of each is needed")
    boxes = {f"{kind}{number}" for kind in "CMP" for number in sizes}
    drawn = {name: Ways(**differences) for name, differences in variants.items()}
    for name, ways in drawn.items():
        if unknown := set(ways.marked) - boxes:
            raise ValueError(f"pathways: {name!r} marks {sorted(unknown)}, which it does not have")
    wide, tall = 2 * COLUMN + 1.5, ROW * len(sizes) + 0.3
    with style.house_style():
        figure = style.new_figure(wide * len(drawn), tall + 0.45 * bool(title))
        for axes, (name, ways) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items()):
            _draw_pyramid(axes, sizes, ways)
            axes.set(xlim=(-0.75, wide - 0.75), ylim=(-0.4, tall - 0.4), aspect="equal")
            axes.axis("off")
            axes.set_title(name, fontsize=11, pad=4)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _draw_pyramid(axes: Axes, sizes: Mapping[str, tuple[int, int]], ways: Ways) -> None:
    for column, text in enumerate(HEADINGS):
        axes.text(column * COLUMN, len(sizes) * ROW - 0.55, text, ha="center", va="center", fontsize=9,
                  color=style.MUTED)  # fmt: skip
    for row, (number, (height, width)) in enumerate(sizes.items()):
        coarsest = row == len(sizes) - 1
        for column, kind in enumerate("CMP"):
            name = f"{kind}{number}"
            _draw_box(axes, column * COLUMN, row * ROW, name, f"{height}×{width}", name in ways.marked)
        y, half = row * ROW, BOX[0] / 2
        joined = ways.lateral and ways.top_down and not coarsest
        if ways.lateral or coarsest:
            _draw_arrow(axes, (half, y), (COLUMN - half - 2 * JOIN * joined, y), "1×1")
        if joined:
            _draw_join(axes, COLUMN - half - JOIN, y)
        if ways.top_down and not coarsest:
            left = COLUMN - half if joined else COLUMN
            end = (left - JOIN, y + JOIN) if joined else (left, y + BOX[1] / 2)
            _draw_arrow(axes, (left + 0.2 * joined, y + ROW - BOX[1] / 2), end, "up", beside=True)
        if not coarsest:
            _draw_arrow(axes, (0, y + BOX[1] / 2), (0, y + ROW - BOX[1] / 2))
        _draw_arrow(axes, (COLUMN + half, y), (2 * COLUMN - half, y), "3×3")


def _draw_box(axes: Axes, x: float, y: float, name: str, detail: str, marked: bool) -> None:
    width, height = BOX
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height,
                                  boxstyle="round,pad=0,rounding_size=0.06", facecolor=MARKED if marked else PLAIN,
                                  edgecolor=style.INK if marked else style.MUTED,
                                  linewidth=1.8 if marked else 1))  # fmt: skip
    axes.text(x, y + 0.09, name, ha="center", va="center", fontsize=10, fontweight="bold")
    axes.text(x, y - 0.12, detail, ha="center", va="center", fontsize=8.5)


def _draw_join(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Circle((x, y), JOIN, facecolor="white", edgecolor=style.MUTED, zorder=3))
    axes.text(x, y, "+", ha="center", va="center_baseline", fontsize=10, zorder=4)


def _draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", beside: bool = False
) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>,head_length=4,head_width=2.2", shrinkA=0, shrinkB=0,
                                   linewidth=1.3, color=style.MUTED, zorder=2))  # fmt: skip
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if text:
        axes.text(x + 0.06 if beside else x, y if beside else y + 0.09, text, ha="left" if beside else "center",
                  va="center", fontsize=8, color=style.INK)  # fmt: skip
