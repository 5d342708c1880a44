"""Curves, bars, images and diagrams of anything: what is drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from tinynet import plot


def texts(figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_lines_differ_in_more_than_colour() -> None:
    curves = {name: (range(5), np.arange(5) + 1.0) for name in "abcdef"}
    (axes,) = plot.lines(curves, x="step", y="loss", log="y", title="six").axes
    looks = {(to_hex(line.get_color()), line.get_marker()) for line in axes.lines}
    assert len(looks) == 6 and len({line.get_marker() for line in axes.lines}) == 6
    assert len({to_hex(line.get_color()) for line in axes.lines}) == 6
    assert axes.get_xscale() == "linear" and axes.get_yscale() == "log"
    assert {"step", "loss", "six", *"abcdef"} <= texts(axes.figure)


def test_lines_of_several_runs_are_a_mean_in_its_range() -> None:
    (axes,) = plot.lines({"runs": ([1, 2], [[1.0, 4.0], [3.0, 8.0]])}, log="xy").axes
    assert axes.lines[0].get_ydata().tolist() == [2.0, 6.0] and axes.get_legend() is None
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 8.0)


@pytest.mark.parametrize("curves", [{}, {"a": ([1, 2], [1])}, {"a": ([[1], [2]], [1, 2])}])
def test_lines_refuse(curves: dict) -> None:
    with pytest.raises(ValueError, match="lines: "):
        plot.lines(curves)


def test_bars() -> None:
    (axes,) = plot.bars({"loops": 1234.5, "numba": 0.01234}, unit="ms", log=True, title="speed").axes
    assert [bar.get_width() for bar in axes.patches] == [1234.5, 0.01234] and axes.get_xscale() == "log"
    assert {"1,234", "0.0123", "loops", "numba", "ms", "speed"} <= texts(axes.figure)


def test_groups_of_bars() -> None:
    figure = plot.bars({"net A": {"train": 1.0, "test": 2.0}, "net B": {"train": 3.0, "test": 4.0}})
    assert sorted(bar.get_width() for bar in figure.axes[0].patches) == [1, 2, 3, 4]
    assert {"train", "test", "net A", "net B"} <= texts(figure)
    for wrong in ({}, {"a": {}}, {"a": {"x": 1.0}, "b": {"y": 1.0}}):
        with pytest.raises(ValueError, match="bars: "):
            plot.bars(wrong)


def test_images(tmp_path: Path) -> None:
    arrays = [np.eye(4), 5 * np.eye(4), np.zeros((4, 4, 3))]
    figure = plot.images(arrays, ["one", "two", "three"], columns=2, title="maps")
    assert len(figure.axes) == 4 and {"one", "two", "three", "maps"} <= texts(figure)
    assert [axes.images[0].get_clim() for axes in figure.axes[:2]] == [(0, 1), (0, 5)]
    same = plot.images(arrays, same_scale=True)
    assert [axes.images[0].get_clim() for axes in same.axes[:2]] == [(0, 5), (0, 5)]
    for wrong, titles in (([], ()), (arrays, ["one"]), ([np.zeros(3)], ()), ([np.zeros((2, 2, 4))], ())):
        with pytest.raises(ValueError, match="images: "):
            plot.images(wrong, titles)


def test_diagram() -> None:
    boxes = {"a": ("x", "data 3"), "b": ("conv 3×3",), "c": ("+",)}
    arrows = [("a", "b"), ("a", "b"), ("b", "c"), ("a", "c")]
    figure = plot.diagram(boxes, arrows, "a title")
    assert {"a title", "x", "data 3", "conv 3×3", "+", "convolution, linear"} <= texts(figure)
    drawn = [patch for patch in figure.axes[0].patches if type(patch).__name__ == "FancyArrowPatch"]
    assert len(drawn) == 3  # one that is given twice is drawn once
    narrow = plot.diagram({"a": ("x",)}, [], "a title that is much wider than its box")
    assert narrow.texts[0].get_window_extent().x1 < narrow.bbox.x1
    with pytest.raises(ValueError, match=r"no box for \['z'\]"):
        plot.diagram(boxes, [("a", "z")])
    with pytest.raises(ValueError, match="no box to draw"):
        plot.diagram({}, [])


def test_a_short_logarithmic_axis_has_numbers() -> None:
    (axes,) = plot.lines({"a": ([8, 12, 16, 40], [1.0, 10.0, 100.0, 1000.0])}, log="xy").axes
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    marks = [label.get_text() for at, label in zip(axes.get_xticks(), axes.get_xticklabels()) if low <= at <= high]
    assert marks == ["10", "20"]
    assert not isinstance(axes.yaxis.get_major_formatter(), type(axes.xaxis.get_major_formatter()))
