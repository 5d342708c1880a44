"""Pictures of pyramids: their ways, the cells that answer for objects, the votes of cells."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.text import Text

from tinynet import plot
from tinynet.plot import style

SIZES = {"2": (32, 30), "3": (16, 15), "4": (8, 8)}


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_pathways_draw_every_box_and_connection() -> None:
    figure = plot.pathways(SIZES, {"whole": {}}, "ways")
    (axes,) = figure.axes
    shown = texts(figure)
    assert {f"{kind}{number}" for kind in "CMP" for number in SIZES} <= set(shown)
    assert shown.count("32×30") == 3 and "ways" in shown and "whole" in shown
    assert shown.count("1×1") == 3 and shown.count("3×3") == 3 and shown.count("up") == 2 and shown.count("+") == 2
    assert len([patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]) == 2 + 3 + 3 + 2


@pytest.mark.parametrize("options, laterals, ups, joins", [
    ({"lateral": False}, 1, 2, 0), ({"top_down": False}, 3, 0, 0), ({"marked": ["C3", "P2"]}, 3, 2, 2),
])  # fmt: skip
def test_pathways_leave_out_what_an_ablation_lacks(options: dict, laterals: int, ups: int, joins: int) -> None:
    shown = texts(plot.pathways(SIZES, {"a": options}))
    assert (shown.count("1×1"), shown.count("up"), shown.count("+")) == (laterals, ups, joins)


def test_pathways_mark_boxes() -> None:
    figure = plot.pathways(SIZES, {"a": {"marked": ["C3", "P2"]}, "b": {}})
    first, second = ([to_hex(box.get_facecolor()) for box in axes.patches if isinstance(box, FancyBboxPatch)]
                     for axes in figure.axes)  # fmt: skip
    assert first.count(style.ORANGE.lower()) == 2 and second.count(style.ORANGE.lower()) == 0


@pytest.mark.parametrize("sizes, variants", [({}, {"a": {}}), (SIZES, {}), (SIZES, {"a": {"marked": ["P7"]}})])
def test_pathways_refuse(sizes: dict, variants: dict) -> None:
    with pytest.raises(ValueError, match="pathways: "):
        plot.pathways(sizes, variants)


def test_assignment_draws_cells_and_boxes_by_level() -> None:
    levels = {
        "P3": (8, [[12.0, 20.0]], np.zeros((0, 4))),
        "P4": (16, [[24.0, 24.0], [40.0, 24.0]], [[10, 8, 44, 40]]),
    }
    figure = plot.assignment(np.zeros((64, 96)), levels, "who")
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [patch.get_bbox().bounds for patch in boxes] == [
        (8, 16, 8, 8), (16, 16, 16, 16), (32, 16, 16, 16), (10, 8, 34, 32)
    ]  # fmt: skip
    assert to_hex(boxes[0].get_facecolor()) != to_hex(boxes[1].get_facecolor()) == to_hex(boxes[3].get_edgecolor())
    assert {"who", "P3: 0 objects, 1 cell of 8×8", "P4: 1 object, 2 cells of 16×16"} <= set(texts(figure))
    for image, given in ((np.zeros((3, 8, 8)), levels), (np.zeros((8, 8)), {})):
        with pytest.raises(ValueError, match="assignment: "):
            plot.assignment(image, given)


def test_votes_tell_right_from_wrong() -> None:
    points, right = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([True, False, True])
    figure = plot.votes(np.zeros((8, 10)), {"one": (points, right), "two": (points, ~right)}, [[4.0, 3.0]], "votes")
    wrong, correct = figure.axes[0].collections
    assert wrong.get_offsets().tolist() == [[3, 4]] and correct.get_offsets().tolist() == [[1, 2], [5, 6]]
    assert [len(marks.get_offsets()) for marks in figure.axes[1].collections] == [2, 1]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[4, 3]]
    assert {"one", "two", "votes", "right", "wrong", "true centre"} <= set(texts(figure))
    for image, panels in ((np.zeros((2, 8, 8)), {"a": (points, right)}), (np.zeros((8, 8)), {}),
                          (np.zeros((8, 8)), {"a": (points, right[:2])})):  # fmt: skip
        with pytest.raises(ValueError, match="votes: "):
            plot.votes(image, panels, [])
