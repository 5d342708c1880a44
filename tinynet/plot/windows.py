"""Where a convolution's windows stand, and what one output of several layers sees: both cut through along one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tinynet.kernels.geometry import window_output_size
from tinynet.plot import style

PADDED = "#D9D9D9"
NEIGHBOURS = 3  # outputs beside the one in question


def windows(cases: Sequence[tuple[int, int, int, int, int]], titles: Sequence[str] = (), title: str = "") -> Figure:
    """One row of the input and the windows on it, an output in each line below.

    Numbered pixels are the input's, blue if a window reads them, white if none does; grey ones are padding.

    Args:
        cases: (size, kernel, stride, padding, dilation) for each panel, the panels side by side.
        titles: one for each panel, or none.

    Raises:
        ValueError: no case, a kernel that does not fit, or another number of titles.
    """
    if not cases or (titles and len(titles) != len(cases)):
        raise ValueError(f"windows: {len(cases)} cases and {len(titles)} titles")
    outputs = [window_output_size(*case) for case in cases]
    for case, count in zip(cases, outputs):
        if count < 1:
            raise ValueError(f"windows: the kernel of (size, kernel, stride, padding, dilation) = {case} does not fit")
    widths = [size + 2 * padding for size, _, _, padding, _ in cases]
    cell = min(0.34, 10.0 / (sum(widths) + 2 * len(cases)))
    with style.house_style():
        figure = style.new_figure(
            max(cell * (sum(widths) + 2 * len(cases)), 3.2), cell * (max(outputs) + 2) + 0.75 + 0.35 * bool(title)
        )
        panels = figure.subplots(1, len(cases), squeeze=False, width_ratios=widths)[0]
        for axes, case, count, text in zip(panels, cases, outputs, titles or [""] * len(cases)):
            _draw_windows(axes, case, count, text)
            axes.set_ylim(max(outputs) + 1.7, -0.1)
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure


def _draw_windows(axes: Axes, case: tuple[int, int, int, int, int], outputs: int, title: str) -> None:
    size, kernel, stride, padding, dilation = case
    reads = {output: [output * stride + tap * dilation for tap in range(kernel)] for output in range(outputs)}
    seen = {place for places in reads.values() for place in places}
    for place in range(size + 2 * padding):
        outside = not padding <= place < padding + size
        colour = PADDED if outside else style.SKY if place in seen else "white"
        axes.add_patch(Rectangle((place + 0.05, 0.05), 0.9, 0.9, facecolor=colour, edgecolor=style.MUTED, linewidth=1))
        if not outside:
            axes.text(place + 0.5, 0.52, str(place - padding), ha="center", va="center", fontsize=8,
                      color=style.INK if place in seen else style.VERMILION)  # fmt: skip
    for output, places in reads.items():
        y = output + 1.7
        axes.plot([places[0] + 0.5, places[-1] + 0.5], [y, y], color=style.BLUE, linewidth=1.4)
        axes.plot([place + 0.5 for place in places], [y] * kernel, "o", color=style.BLUE, markersize=6)
    axes.set_xlim(-0.4, size + 2 * padding + 0.4)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(f"{title}\n{outputs} outputs" if title else f"{outputs} outputs", fontsize=10.5, loc="left", pad=4)


def receptive_field(layers: Sequence[tuple[int, int, int]], title: str = "") -> Figure:
    """What one output of a stack of layers sees, layer by layer down to the input.

    Args:
        layers: (kernel, stride, dilation) of each, from the input on; windows are centred.

    Raises:
        ValueError: no layer, or a number below 1.
    """
    if not layers or any(number < 1 for layer in layers for number in layer):
        raise ValueError(f"receptive_field: layers of (kernel, stride, dilation), each at least 1, got {layers!r}")
    jumps = [int(np.prod([stride for _, stride, _ in layers[:level]])) for level in range(len(layers) + 1)]
    reached = [{0.0}]  # positions in pixels of the input, from the topmost layer down
    lines = []
    for level in range(len(layers), 0, -1):
        kernel, _, dilation = layers[level - 1]
        taps = [(tap - (kernel - 1) / 2) * dilation * jumps[level - 1] for tap in range(kernel)]
        below = {place + tap for place in reached[-1] for tap in taps}
        lines += [((place, level), (place + tap, level - 1)) for place in reached[-1] for tap in taps]
        reached.append(below)
    reached.reverse()
    width = max(reached[0]) - min(reached[0]) + 1
    margin = NEIGHBOURS if width < 30 else 0.1 * width
    with style.house_style():
        figure = style.new_figure(min(10.0, max(5.2, 0.3 * width + 3.2)), 0.85 * len(layers) + 1.3)
        axes = figure.subplots()
        for (x0, y0), (x1, y1) in lines:
            axes.plot([x0, x1], [y0, y1], color=style.SKY, linewidth=1, zorder=1)
        for level, places in enumerate(reached):
            _draw_level(axes, level, places, jumps[level], margin + width / 2)
            text = "input" if level == 0 else _name(layers[level - 1])
            axes.text(-margin - width / 2 - 0.6, level, text, ha="right", va="center", fontsize=9.5)
        bottom = min(reached[0]) - 0.5
        arrow = {"arrowstyle": "<->", "color": style.INK}
        axes.annotate("", (bottom, -0.42), (bottom + width, -0.42), arrowprops=arrow)
        axes.text(bottom + width / 2, -0.55, f"sees {width:.0f} pixels", ha="center", va="top", fontsize=10)
        axes.set_ylim(-0.95, len(layers) + 0.35)
        axes.axis("off")
        axes.set_title(title)
    return figure


def _draw_level(axes: Axes, level: int, reached: set[float], jump: int, reach: float) -> None:
    first = min(reached)
    before = int((first + reach) // jump)
    all_places = np.arange(first - before * jump, reach, jump)
    axes.plot(all_places, np.full(len(all_places), level), "o", color="white", markeredgecolor=style.MUTED,
              markersize=5.5, markeredgewidth=0.9, zorder=2)  # fmt: skip
    axes.plot(sorted(reached), np.full(len(reached), level), "o", color=style.BLUE, markersize=6.5, zorder=3)


def _name(layer: tuple[int, int, int]) -> str:
    kernel, stride, dilation = layer
    return f"{kernel}×{kernel}" + f", stride {stride}" * (stride > 1) + f", dilation {dilation}" * (dilation > 1)
