"""The look of all pictures, in one place: colours that colour-blind readers tell apart, readable sizes.

Figures are made and saved without pyplot, so that no window opens, no display is needed and nothing of the
user's own matplotlib settings changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tinynet.utils.atomic import atomic_write

# Okabe and Ito 2008, "Color Universal Design": told apart with every kind of colour blindness, and in print.
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
INK = "#222222"
MUTED = "#6B6B6B"
FAINT = "#EFEFEF"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)  # of things side by side
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (10, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MAP = "cividis"  # Nunez, Anderton, Renslow 2018: the same to all eyes, light to dark

RESOLUTION = 130  # dots per inch

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 2.2,
    "figure.facecolor": "white",
    "figure.dpi": RESOLUTION,
    "savefig.dpi": RESOLUTION,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Inside of the block figures are made in the house's style; afterwards the settings are as before."""
    with rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches that belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as PNG, all or nothing. Raises OSError."""
    with house_style(), atomic_write(path) as file:
        figure.savefig(file, format="png")
