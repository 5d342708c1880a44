"""The roofline: the roof is the lower of two limits, the points stand where they were measured."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from tinynet import plot


def test_roofline() -> None:
    points = {"addition": (0.1, 2.0), "convolution": (50.0, 150.0)}
    figure = plot.roofline(points, peak=200.0, bandwidth=20.0, title="a title")
    (axes,) = figure.axes
    roof, corner, *dots = axes.lines
    across, up = np.asarray(roof.get_xdata()), np.asarray(roof.get_ydata())
    assert np.allclose(up, np.where(across < 10, 20 * across, 200)) and set(corner.get_xdata()) == {10}
    assert [(*dot.get_xdata(), *dot.get_ydata()) for dot in dots] == list(points.values())
    low, high = axes.get_xlim()
    assert low < 0.1 and high > 50 and axes.get_ylim()[0] < 2 and axes.get_ylim()[1] > 200
    shown = {text.get_text() for text in figure.findobj(Text)}
    assert {"addition", "convolution", "computing: 200 GFLOP/s", "memory: 20 GB/s", "a title"} <= shown


@pytest.mark.parametrize("points, peak", [({}, 1.0), ({"a": (0.0, 1.0)}, 1.0), ({"a": (1.0, 1.0)}, float("nan"))])
def test_roofline_refuses(points: dict, peak: float) -> None:
    with pytest.raises(ValueError, match="roofline: "):
        plot.roofline(points, peak, 1.0)
