"""Pictures of detections: what is right, wrong and missed, and figures that stay readable in the extremes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

import tinynet
from tinynet import plot
from tinynet.plot import style
from tinynet.plot.detections import COLOURS, _checked, _displayed, _matched

CLASSES = ["RBC", "WBC", "Platelets"]
TRUTH = {"boxes": np.float32([[0, 0, 20, 20], [30, 30, 50, 60], [60, 5, 70, 15]]), "labels": np.array([0, 1, 2])}
FOUND = {
    "boxes": np.float32([[1, 1, 20, 20], [0, 0, 20, 19], [31, 30, 50, 60], [60, 5, 70, 15], [80, 60, 90, 70]]),
    "labels": np.array([0, 0, 2, 2, 1]),
    "scores": np.float32([0.9, 0.8, 0.7, 0.6, 0.2]),
}


def texts(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def boxes_of(axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def written(figure, path: Path) -> np.ndarray:
    plot.save(figure, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_right_wrong_and_missed() -> None:
    """The second red cell is a repetition, the third box has the wrong class, the last is below the threshold."""
    image = np.full((3, 80, 100), 0.8, np.float32)
    figure = plot.detections([image], [FOUND], [TRUTH], CLASSES, threshold=0.5)
    left, right = figure.axes
    assert [box.get_linestyle() for box in boxes_of(left)] == ["-", "--", "--", "-"]
    assert [box.get_linestyle() for box in boxes_of(right)] == ["-", "--", "-"]
    assert "found 4, 2 wrong" in texts(figure) and "annotated 3, 1 missed" in texts(figure)
    assert ".90" in texts(figure) and ".20" not in texts(figure)
    assert all(name in texts(figure) for name in [*CLASSES, "no counterpart"])
    edges = [box.get_edgecolor()[:3] for box in boxes_of(right)]
    assert len(set(edges)) == 3


def test_better_scores_choose_first() -> None:
    found = {**FOUND, "scores": np.float32([0.8, 0.9, 0.7, 0.6, 0.2])}
    right, seen = _matched(_checked("", found), _checked("", TRUTH))
    assert right.tolist() == [False, True, False, True, False] and seen.tolist() == [True, False, True]


def test_boxes_are_where_they_should_be(tmp_path: Path) -> None:
    figure = plot.draw_boxes(np.zeros((40, 60), np.uint8), [(10, 5, 50, 30)], scores=[0.5])
    axes = figure.axes[0]
    (box,) = boxes_of(axes)
    assert box.get_bbox().extents.tolist() == [10, 5, 50, 30]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 60), (40, 0))
    pixels = written(figure, tmp_path / "one.png").astype(int)
    dark = np.argwhere(pixels.sum(axis=2) == 0)
    (y0, x0), (y1, x1) = dark.min(axis=0), dark.max(axis=0)
    blue = np.argwhere(np.abs(pixels[:y1] - (0, 0x72, 0xB2)).sum(axis=2) < 12)  # not the legend
    left, (bottom, right) = blue[:, 1].min(), blue.max(axis=0)
    assert (right - left) / (x1 - x0) == pytest.approx(40 / 60, abs=0.02)
    assert (left - x0) / (x1 - x0) == pytest.approx(10 / 60, abs=0.02)
    assert (bottom - y0) / (y1 - y0) == pytest.approx(30 / 40, abs=0.03)


@pytest.mark.parametrize("shape", [(3, 40, 60), (40, 60, 3), (1, 40, 60), (40, 60, 1), (40, 60)])
@pytest.mark.parametrize("kind", ["bytes", "floats", "tensor"])
def test_images_of_all_kinds(shape, kind: str) -> None:
    image = (np.arange(np.prod(shape)) % 256).reshape(shape).astype(np.uint8)
    given = {"bytes": image, "floats": image / np.float32(255),
             "tensor": tinynet.from_numpy(image / np.float32(255))}[kind]  # fmt: skip
    expected = image.transpose(1, 2, 0) if shape[0] in (1, 3) else image.reshape(40, 60, -1)
    assert np.array_equal(_displayed("", given), np.broadcast_to(expected, (40, 60, 3)))


def test_nothing_found_truth_and_tensors(tmp_path: Path) -> None:
    empty = {"boxes": tinynet.zeros(0, 4), "labels": tinynet.zeros(0, dtype=tinynet.int64), "scores": tinynet.zeros(0)}
    image = tinynet.rand(1, 30, 30)
    figure = plot.detections([image] * 3, [empty] * 3, [empty, TRUTH, TRUTH], CLASSES, title="a title")
    assert texts(figure).count("found 0, 0 wrong") == 3 and "annotated 3, 3 missed" in texts(figure)
    written(figure, tmp_path / "empty.png")
    single = plot.draw_boxes(image, empty["boxes"], empty["labels"], empty["scores"], classes=CLASSES, truth=[])
    assert "nothing found" in texts(single)
    written(single, tmp_path / "single.png")
    both = plot.draw_boxes(image, TRUTH["boxes"], TRUTH["labels"], classes=CLASSES, truth=TRUTH["boxes"])
    assert len(boxes_of(both.axes[0])) == 6 and "annotated" in texts(both) and "RBC: 1" in texts(both)


def test_more_classes_than_colours_have_names_at_the_boxes() -> None:
    classes = [f"c{number}" for number in range(10)]
    truth = {"boxes": TRUTH["boxes"], "labels": np.array([0, 6, 9])}
    figure = plot.detections([np.zeros((80, 100))], [{**truth, "scores": np.ones(3)}], [truth], classes)
    assert "c6 1.00" in texts(figure) and texts(figure).count("c9") == 2


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_grids(count: int, tmp_path: Path) -> None:
    images = [np.zeros((3, 80, 100), np.float32)] * count
    figure = plot.detections(images, [FOUND] * count, [TRUTH] * count, CLASSES)
    pixels = written(figure, tmp_path / "grid.png")
    assert pixels.shape[0] < 2200 and pixels.shape[1] < 2400
    assert len([axes for axes in figure.axes if axes.images]) == 2 * count


def test_input_that_does_not_fit() -> None:
    image = np.zeros((3, 9, 9))
    with pytest.raises(ValueError, match="2 images, 1 predictions and 1 truths"):
        plot.detections([image] * 2, [FOUND], [TRUTH], CLASSES)
    with pytest.raises(ValueError, match="0 images"):
        plot.detections([], [], [], CLASSES)
    with pytest.raises(ValueError, match=r"draw_boxes: 1 boxes, labels \(2,\)"):
        plot.draw_boxes(image, [(0, 0, 1, 1)], [1, 2])
    with pytest.raises(ValueError, match="one or three channels"):
        plot.draw_boxes(np.zeros((4, 9, 9)), [])


def test_precision_recall(tmp_path: Path) -> None:
    recall = np.linspace(0, 1, 101)
    names = [f"class {number}" for number in range(9)]
    figure = plot.precision_recall(dict.fromkeys(names, (recall, 1 - recall * 0.1)), "a title")
    lines = figure.axes[0].lines
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}
    assert len(lines) == len(looks) == 9 and all(name in texts(figure) for name in [*names, "a title"])
    written(figure, tmp_path / "pr.png")
    with pytest.raises(ValueError, match="no curve"):
        plot.precision_recall({})
    with pytest.raises(ValueError, match=r"a has recall \(3,\) and precision \(2,\)"):
        plot.precision_recall({"a": (np.zeros(3), np.zeros(2))})


def row(name: str, scale: float = 1.0, **more: object) -> dict:
    return {"name": name, "AP": 0.5 * scale, "AP_small": [0.2 * scale, 0.4 * scale], "AP_medium": 0.6, "AP_large": 0.7,
            **more}  # fmt: skip


def test_size_comparison(tmp_path: Path) -> None:
    rows = [row("(a) pyramid", milliseconds=[20.0, 25.0], megabytes=48.3), row("(d) FPN", 1.2, milliseconds=5.0)]
    figure = plot.size_comparison(rows, "a title")
    sizes, times, memory = figure.axes
    widths = [bar.get_width() for bar in boxes_of(sizes)]
    assert widths == pytest.approx([0.5, 0.6, 0.3, 0.36, 0.6, 0.6, 0.7, 0.7])
    assert [bar.get_width() for bar in boxes_of(times)] == [22.5, 5.0] and len(boxes_of(memory)) == 1
    for text in ("(a) pyramid", "(d) FPN", "22.5", "48.3", "small", "a title"):
        assert text in texts(figure)
    assert sizes.lines[0].get_xdata().tolist() == [0.2, 0.4]  # from the lowest to the highest seed
    written(figure, tmp_path / "sizes.png")
    assert len(plot.size_comparison([row("only")]).axes) == 1
    wide = plot.size_comparison([row("a", milliseconds=1.0), row("b", milliseconds=100.0)])
    assert wide.axes[1].get_xscale() == "log" and "log scale" in wide.axes[1].get_title("left")
    with pytest.raises(ValueError, match="no row"):
        plot.size_comparison([])


def test_the_colours_are_the_houses() -> None:
    assert set(COLOURS) <= {style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY}
    assert len(set(COLOURS)) == 6
