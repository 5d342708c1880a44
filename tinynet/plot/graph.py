"""A graph as a picture: the layers of a model, or what a tape has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path

from tinynet import Tensor, nn
from tinynet.inspect.graph import COLOURS, JOINS, Graph, Vertex, kind_of, module_graph, tape_graph
from tinynet.plot import style
from tinynet.plot.layout import Point, layout

TITLE_SIZE, DETAIL_SIZE = 9.5, 8.0  # points
TITLE_WIDTH, DETAIL_WIDTH = 0.092, 0.071  # inches per character
HEADING_WIDTH = 0.125
LINE = 0.16  # inches
PADDING = 0.09
JOIN = 0.34  # diameter
ROUND = {"input", "output"}
ORDER = ("convolution", "normalisation", "activation", "resampling", "join", "block", "parameter")
NAMES = {"convolution": "convolution, linear", "block": "several layers", "join": "addition and other joins"}


def graph(target: nn.Module | Tensor, input_size: Any = None, depth: int | None = None, title: str = "",
          model: nn.Module | None = None) -> Figure:
    """Draws a model's layers and operations, or the tape behind a tensor.

    Args:
        target: a model, of which one forward pass on `input_size` is drawn; or a tensor with a recorded graph,
            of which every operation and leaf is drawn.
        input_size: a size or an example input, as in `tinynet.inspect.summary`; of no use with a tensor.
        depth: modules below this level become one box; by default as many levels as stay readable.
        model: whose parameters' names are used for the leaves of a tape.

    Raises:
        ValueError: a model without input_size, a tensor without a graph, or one that was freed.
    """  # fmt: skip
    if isinstance(target, Tensor):
        return draw(tape_graph(target, model), title)
    if input_size is None:
        raise ValueError(f"graph: the model {type(target).__name__} needs an input_size such as (1, 3, 224, 224)")
    return draw(module_graph(target, input_size, depth), title or f"{type(target).__name__}")


def diagram(boxes: Mapping[str, Sequence[str]], arrows: Iterable[tuple[str, str]], title: str = "") -> Figure:
    """Draws boxes and the arrows between them.

    Args:
        boxes: for each key the lines of text in its box, the first one in bold. `+`, `−`, `×` and `÷` become circles
            if they stand alone; boxes that no arrow enters are drawn as inputs.
        arrows: pairs of keys, (from, to), each of which stands below what it comes from. A pair given twice is
            drawn once.

    Raises:
        ValueError: no box, or an arrow with a key that has none.
    """
    arrows = list(dict.fromkeys(arrows))
    unknown = {key for arrow in arrows for key in arrow} - boxes.keys()
    if not boxes or unknown:
        raise ValueError(f"diagram: no box for {sorted(unknown)}" if boxes else "diagram: there is no box to draw")
    entered = {target for _, target in arrows}
    vertices = {
        key: Vertex(text[0], tuple(text[1:]), _kind(text[0]) if key in entered else "input")
        for key, text in boxes.items()
    }
    return draw(Graph([*vertices.values()], [(vertices[source], vertices[target]) for source, target in arrows]), title)


def _kind(title: str) -> str:
    return "join" if title in JOINS.values() else kind_of(title)


def draw(plan: Graph, title: str = "") -> Figure:
    """The picture of a graph, as large as its boxes need."""
    index = {vertex: number for number, vertex in enumerate(plan.vertices)}
    placed = layout(
        [_size(vertex) for vertex in plan.vertices],
        [(index[source], index[target]) for source, target in plan.edges],
    )
    kinds = [kind for kind in ORDER if any(vertex.kind == kind for vertex in plan.vertices)]
    margin, below = 0.2, 0.24 * (-(-len(kinds) // 3)) + 0.1
    above = 0.4 if title else 0.0
    width = max(placed.width + 2 * margin, 4.2 if kinds else 2.0, len(title) * HEADING_WIDTH + 2 * margin)
    height = placed.height + 2 * margin + above + below
    with style.house_style():
        figure = style.new_figure(width, height)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        left = (width - placed.width) / 2
        axes.set_xlim(-left, width - left)
        axes.set_ylim(height - margin - above, -margin - above)
        for route in placed.routes:
            _draw_edge(axes, route)
        for vertex, centre in zip(plan.vertices, placed.centres):
            _draw_vertex(axes, vertex, centre)
        if title:
            figure.text(margin / width, 1 - 0.12 / height, title, fontsize=12, fontweight="bold", va="top")
        _add_legend(figure, kinds)
    return figure


def _title(vertex: Vertex) -> str:
    """The vertex's name with the modules around it: ``layer1.0.conv1``."""
    return ".".join([*(group.split(" ")[0] for group in vertex.groups), vertex.title])


def _size(vertex: Vertex) -> tuple[float, float]:
    if vertex.kind == "join" and len(vertex.title) == 1:
        return JOIN, JOIN
    characters = max((len(text) for text in vertex.details), default=0)
    width = max(len(_title(vertex)) * TITLE_WIDTH, characters * DETAIL_WIDTH, 0.6)
    return width + 2 * PADDING, LINE * (1 + len(vertex.details)) + 2 * PADDING


def _draw_vertex(axes: Axes, vertex: Vertex, centre: Point) -> None:
    (x, y), (width, height), colour = centre, _size(vertex), COLOURS[vertex.kind]
    if (width, height) == (JOIN, JOIN):
        axes.add_patch(Ellipse(centre, JOIN, JOIN, facecolor=colour, edgecolor=style.MUTED, linewidth=1, zorder=2))
        axes.text(x, y, vertex.title, ha="center", va="center_baseline", fontsize=13, zorder=3)
        return
    rounding = height / 2 if vertex.kind in ROUND else 0.06
    outline = f"round,pad=0,rounding_size={rounding}"
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle=outline,
                                  facecolor=colour, edgecolor=style.MUTED, linewidth=1, zorder=2))  # fmt: skip
    line = y - LINE * len(vertex.details) / 2
    axes.text(x, line, _title(vertex), ha="center", va="center", fontsize=TITLE_SIZE, fontweight="bold", zorder=3)
    for number, text in enumerate(vertex.details, start=1):
        axes.text(x, line + LINE * number, text, ha="center", va="center", fontsize=DETAIL_SIZE,
                  color=style.INK, zorder=3)  # fmt: skip


def _draw_edge(axes: Axes, route: list[Point]) -> None:
    """A line through the points that leaves and enters downwards; pieces between points swing from vertical to
    vertical, those along the axes stay straight."""
    points, codes = [route[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(route):
        if abs(x0 - x1) < 1e-6 or abs(y0 - y1) < 1e-6:
            points.append((x1, y1))
            codes.append(Path.LINETO)
        else:
            middle = (y0 + y1) / 2
            points += [(x0, middle), (x1, middle), (x1, y1)]
            codes += [Path.CURVE4] * 3
    head = "-|>,head_length=5,head_width=2.5"
    arrow = FancyArrowPatch(path=Path(points, codes), arrowstyle=head, linewidth=1.2, color=style.MUTED,
                            shrinkA=0, shrinkB=0, joinstyle="round", zorder=1)  # fmt: skip
    axes.add_patch(arrow)


def _add_legend(figure: Figure, kinds: list[str]) -> None:
    handles = [
        Patch(facecolor=COLOURS[kind], edgecolor=style.MUTED, label=NAMES.get(kind, kind)) for kind in kinds
    ]
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=8,
                      handlelength=1.2, handleheight=1.0, columnspacing=1.2)  # fmt: skip
