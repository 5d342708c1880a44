"""Stacks of plates: what is drawn, how large and how thick, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, Polygon
from matplotlib.text import Text
from PIL import Image

from tinynet import plot

IMAGE, MAPS = {"image": (128, 0)}, {"C2": (32, 4), "C3": (16, 8)}


def drawing(**changes: Any) -> dict[str, Any]:
    arrows = [("image", "C2"), ("C2", "C3")]
    return {"columns": [IMAGE, MAPS], "arrows": arrows, "predicts": ["C3"], **changes}


def plates(axes) -> list[Polygon]:
    return [patch for patch in axes.patches if isinstance(patch, Polygon)]


def width(plate: Polygon) -> float:
    xs = plate.get_xy()[:, 0]
    return float(xs.max() - xs.min())


def test_plates_shrink_with_their_maps_and_thicken_with_their_strength() -> None:
    (axes,) = plot.stacks({"one": drawing()}).axes
    image, fine, coarse = plates(axes)
    assert width(fine) > width(coarse) and width(image) == pytest.approx(width(fine))
    thickness = [plate.get_linewidth() for plate in (image, fine, coarse)]
    assert thickness == sorted(thickness) and thickness[0] < thickness[1] < thickness[2]
    assert image.get_facecolor() != fine.get_facecolor() == coarse.get_facecolor()
    assert coarse.get_xy()[:, 1].min() > fine.get_xy()[:, 1].max()  # finest below
    assert image.get_xy()[:, 0].max() < fine.get_xy()[:, 0].min()  # columns from left to right


def test_thickness_is_the_same_in_all_drawings() -> None:
    weak = drawing(columns=[IMAGE, {"C2": (32, 1), "C3": (16, 2)}])
    first, second = plot.stacks({"strong": drawing(), "weak": weak}).axes
    assert plates(second)[2].get_linewidth() < plates(first)[1].get_linewidth()
    hundredfold = drawing(columns=[IMAGE, {"C2": (32, 400), "C3": (16, 800)}])
    (scaled,) = plot.stacks({"scaled": hundredfold}).axes
    assert [plate.get_linewidth() for plate in plates(scaled)] == [plate.get_linewidth() for plate in plates(first)]


def test_arrows_lead_from_plate_to_plate_and_to_predictions() -> None:
    (axes,) = plot.stacks({"one": drawing()}).axes
    assert sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches) == 3
    words = [text.get_text() for text in axes.texts]
    assert words.count("predict") == 1 and {"C2\n32×32", "C3\n16×16", "image\n128×128"} <= set(words)
    image, fine, coarse = plates(axes)
    across, up, predict = [patch._posA_posB for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert image.get_xy()[:, 0].min() < across[0][0] < across[1][0] < fine.get_xy()[:, 0].max()
    assert across[0][1] == across[1][1]
    assert up[0][0] == up[1][0] and up[0][1] < up[1][1] <= coarse.get_xy()[:, 1].min()
    assert predict[0][0] >= coarse.get_xy()[:, 0].max() - 0.1 and predict[0][1] == predict[1][1]


def test_a_downward_arrow_ends_on_top() -> None:
    (axes,) = plot.stacks({"one": drawing(arrows=[("C3", "C2")])}).axes
    _, fine, coarse = plates(axes)
    (start, end), _ = [patch._posA_posB for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert start[1] <= coarse.get_xy()[:, 1].min() and end[1] >= fine.get_xy()[:, 1].max()


def test_groups_stand_in_rows_and_are_saved(tmp_path: Path) -> None:
    without = drawing()
    del without["predicts"]
    figure = plot.stacks({"a": drawing(), "b": without, "c": drawing()}, columns=2, title="all")
    assert len(figure.axes) == 4
    assert {"a", "b", "c", "all"} <= {text.get_text() for text in figure.findobj(Text)}
    plot.save(figure, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


@pytest.mark.parametrize("drawings, message", [
    ({}, "nothing to draw"),
    ({"x": drawing(columns=[], arrows=[], predicts=[])}, "'x' needs plates"),
    ({"x": drawing(columns=[IMAGE, MAPS, IMAGE])}, "'x' needs plates with different names"),
    ({"x": drawing(arrows=[("C2", "C9")])}, r"no plate \['C9'\]"),
    ({"x": drawing(predicts=["P2"])}, r"no plate \['P2'\]"),
])  # fmt: skip
def test_stacks_refuse(drawings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot.stacks(drawings)
