"""A photo beside what a net takes it for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tinynet.plot import style

LONGEST_LINE = 26  # characters of a class name


def classification(photo: Any, names: Sequence[str], probabilities: Sequence[float], title: str = "") -> Figure:
    """The photo and a bar for each of the given classes, the most probable first.

    Args:
        photo: (H, W, 3) bytes, or what NumPy makes that of (a Pillow image): what the net was shown.
        names, probabilities: of the classes, in the order to be shown.

    Raises:
        ValueError: no class, or not as many names as probabilities.
    """
    if not names or len(names) != len(probabilities):
        raise ValueError(f"classification: {len(names)} names need as many probabilities, got {len(probabilities)}")
    with style.house_style():
        figure = style.new_figure(9.5, 4.0)
        picture, bars = figure.subplots(1, 2, width_ratios=(1, 1.35))
        picture.imshow(np.asarray(photo))
        picture.axis("off")
        places = np.arange(len(names))
        colours = [style.BLUE, *[style.SKY] * (len(names) - 1)]
        bars.barh(places, probabilities, color=colours, height=0.62)
        for place, probability in zip(places, probabilities):
            bars.annotate(f"{probability:.1%}", (probability, place), (6, 0), textcoords="offset points",
                          va="center", fontsize=10)  # fmt: skip
        bars.set_yticks(places, [textwrap.fill(name, LONGEST_LINE) for name in names], fontsize=10.5)
        bars.invert_yaxis()
        bars.set_xlim(0, max(1.15 * max(probabilities), 0.01))  # room for the numbers
        bars.xaxis.set_major_locator(MaxNLocator(5))
        bars.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))
        bars.grid(False, axis="y")
        bars.tick_params(axis="y", length=0)
        bars.set_xlabel("probability")
        if title:
            figure.suptitle(title, fontsize=12, color=style.MUTED, x=0.01, ha="left")
    return figure
