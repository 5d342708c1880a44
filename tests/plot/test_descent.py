"""Paths on a map: what is drawn where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.text import Text

from tinynet import plot


def bowl(x, y):
    return x**2 + 9 * y**2


def test_descent_over_the_map_of_their_function() -> None:
    points = {"plain": ([4.0, 1.0, 0.5], [1.0, -1.0, 0.5]), "momentum": ([4.0, 0.0], [1.0, 0.0])}
    figure = plot.descent(bowl, points, x="a", y="b", title="two ways down")
    (axes,) = figure.axes
    drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert drawn["plain"].get_xydata().tolist() == [[4, 1], [1, -1], [0.5, 0.5]]
    looks = zip(*((to_hex(line.get_color()), line.get_linestyle(), line.get_marker()) for line in drawn.values()))
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert all(one != other for one, other in looks) and {"a", "b", "two ways down", *points} <= texts
    ends = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "X"]
    assert ends == [(0.5, 0.5), (0.0, 0.0)]


def test_the_contours_are_the_functions() -> None:
    (axes,) = plot.descent(bowl, {"a path": ([3.0, -3.0], [1.0, -1.0])}).axes
    (contours,) = axes.findobj(ContourSet)
    assert not axes.findobj(QuadMesh) and len(contours.levels) >= 10
    for level, path in zip(contours.levels[3:], contours.get_paths()[3:]):
        assert np.allclose(bowl(*path.vertices.T), level, rtol=0.02)
    drawn = np.concatenate([path.vertices for path in contours.get_paths()])
    assert (drawn.min(axis=0) < [-3, -1]).all() and (drawn.max(axis=0) > [3, 1]).all(), "all points lie on the map"


def test_a_path_of_one_point() -> None:
    assert len(plot.descent(bowl, {"still": ([1.0], [1.0])}).axes) == 1


@pytest.mark.parametrize("points", [
    {}, {"a": ([1.0, 2.0], [1.0])}, {"a": ([], [])}, {"a": ([1.0], [float("nan")])}, {"a": [1.0, 2.0]},
])  # fmt: skip
def test_descent_refuse(points: dict) -> None:
    with pytest.raises(ValueError, match="descent: "):
        plot.descent(bowl, points)
