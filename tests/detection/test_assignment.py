"""Matcher, FCOS's assignment and the small detector's, against definitions written object by object."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.kernels.box_cases import random_boxes
from tinynet.detection import Matcher, assign_batch, assign_levels, assign_points, match_fcos


def matched_by_definition(quality, high, low, low_quality):
    """One prediction after the other: its best object (the first of equal ones), if good enough."""
    matches = []
    for column in range(quality.shape[1]):
        values = quality[:, column]
        best = int(values.argmax())
        match = best
        if values[best] < low:
            match = -1
        elif values[best] < high:
            match = -2
        if low_quality and any(quality[row, column] == quality[row].max() for row in range(len(quality))):
            match = best
        matches.append(match)
    return matches


@pytest.mark.parametrize("low_quality", [False, True])
def test_matcher_on_a_thousand_cases(low_quality):
    kinds = set()
    for number in range(1000):
        rng = np.random.default_rng(number)
        shape = tuple(int(n) for n in rng.integers(1, 12, 2))
        ties = rng.integers(0, rng.choice([4, 6, 11]), shape) / 10  # up to .3 no prediction is good enough by itself
        quality = (ties if number % 2 else rng.random(shape)).astype(np.float32)
        found = Matcher(0.5, 0.4, low_quality)(tinynet.from_numpy(quality))
        assert found.dtype == tinynet.int64
        assert found.tolist() == matched_by_definition(quality, np.float32(0.5), np.float32(0.4), low_quality)
        kinds |= {min(match, 0) for match in found.tolist()}
    assert kinds == {0, -1, -2}


def test_low_quality_matches_go_to_the_best_object():
    """The third prediction is the first object's best, but it overlaps the second more: it is given that one."""
    quality = tinynet.tensor([[0.1, 0.1, 0.3], [0.6, 0.2, 0.35]])
    assert Matcher(0.5, 0.4, True)(quality).tolist() == [1, -1, 1]
    assert Matcher(0.5, 0.4, False)(quality).tolist() == [1, -1, -1]
    matcher, matches = Matcher(0.5, 0.4), tinynet.tensor([-1, -1, -1])
    matcher.set_low_quality_matches_(matches, tinynet.tensor([1, 1, 0]), quality)
    assert matches.tolist() == [1, -1, 0]


def test_matcher_refuses():
    with pytest.raises(ValueError, match=r"low_threshold 0.6 must not be above high_threshold 0.5"):
        Matcher(0.5, 0.6)
    with pytest.raises(ValueError, match="an image without objects has nothing to match"):
        Matcher(0.5, 0.4)(tinynet.zeros(0, 7))
    with pytest.raises(ValueError, match="there are no predictions to match"):
        Matcher(0.5, 0.4)(tinynet.zeros(3, 0))
    with pytest.raises(ValueError, match=r"must be \(objects, predictions\), got \(3,\)"):
        Matcher(0.5, 0.4)(tinynet.zeros(3))


STRIDES = (8, 16, 32)
GRIDS = ((16, 12), (8, 6), (4, 3))


def fcos_anchors():
    boxes = [
        [(column - 0.5) * stride, (row - 0.5) * stride, (column + 0.5) * stride, (row + 0.5) * stride]
        for stride, (rows, columns) in zip(STRIDES, GRIDS)
        for row in range(rows)
        for column in range(columns)
    ]
    return np.array(boxes, np.float32)


def fcos_by_definition(anchors, boxes, counts, radius):
    """Point by point and object by object."""
    levels = np.repeat(np.arange(len(counts)), counts)
    matched = []
    for (x1, y1, x2, _), level in zip(anchors.tolist(), levels):
        stride = x2 - x1
        x, y = x1 + stride / 2, y1 + stride / 2
        least = 0 if level == 0 else 4 * stride
        most = np.inf if level == len(counts) - 1 else 8 * stride
        best = (-1, np.inf)
        for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
            sides = (x - left, y - top, right - x, bottom - y)
            away = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
            area = (right - left) * (bottom - top)
            if min(sides) > 0 and least < max(sides) < most and away < radius * stride and area < best[1]:
                best = (index, area)
        matched.append(best[0])
    return matched


def test_fcos_by_definition():
    """Coordinates are multiples of 4: areas differ by 8 at least or not at all, as 1e8 - area in float32 needs it."""
    anchors, counts = fcos_anchors(), [rows * columns for rows, columns in GRIDS]
    levels_used = set()
    for number in range(150):
        rng = np.random.default_rng(number)
        corner = rng.integers(0, 20, (int(rng.integers(0, 8)), 2)) * 4
        size = rng.choice([8, 16, 24, 40, 64, 100, 200, 300], corner.shape)
        boxes = np.concatenate([corner, corner + size], 1).astype(np.float32)
        radius = float(rng.choice([1.5, 0.5, 3]))
        found = match_fcos(tinynet.from_numpy(anchors), tinynet.from_numpy(boxes), counts, radius)
        assert found.dtype == tinynet.int64
        assert found.tolist() == fcos_by_definition(anchors, boxes, counts, radius)
        levels_used |= set(np.repeat(np.arange(3), counts)[found.numpy() >= 0].tolist())
    assert levels_used == {0, 1, 2}


def test_fcos_refuses():
    with pytest.raises(ValueError, match=r"252 anchors, but the levels have \[100, 50\], in all 150"):
        match_fcos(tinynet.from_numpy(fcos_anchors()), tinynet.zeros(1, 4), [100, 50])


def points_by_definition(boxes, grids, strides, radius, scale):
    """Cell by cell; the smallest box whose level this is and that takes this cell."""
    matched = []
    for level, ((rows, columns), stride) in enumerate(zip(grids, strides)):
        for row in range(rows):
            for column in range(columns):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                best = (-1, np.inf)
                for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                    size = np.sqrt((x2 - x1) * (y2 - y1))
                    least = 0 if level == 0 else scale * stride / 2
                    most = np.inf if level == len(strides) - 1 else scale * stride
                    centre = (x1 + x2) / 2, (y1 + y2) / 2
                    holds = (column, row) == (
                        min(max(centre[0] // stride, 0), columns - 1), min(max(centre[1] // stride, 0), rows - 1),
                    )  # fmt: skip
                    inside = x1 < x < x2 and y1 < y < y2
                    near = max(abs(x - centre[0]), abs(y - centre[1])) < radius * stride
                    area = (x2 - x1) * (y2 - y1)
                    if least <= size < most and ((inside and near) or holds) and area < best[1]:
                        best = (index, area)
                matched.append(best[0])
    return matched


@pytest.mark.parametrize("strides", [(4, 8, 16), (8,)])
def test_points_by_definition(strides):
    grids = [(64 // stride, 48 // stride + 1) for stride in strides]
    for number in range(120):
        rng = np.random.default_rng(number)
        boxes = random_boxes(rng, int(rng.integers(0, 9)), ("random", "whole", "crowded")[number % 3])
        radius, scale = float(rng.choice([1.5, 0, 2.25])), float(rng.choice([2.5, 4]))
        found = assign_points(tinynet.from_numpy(boxes), grids, strides, radius, scale)
        assert found.dtype == tinynet.int64
        assert found.tolist() == points_by_definition(boxes, grids, strides, radius, scale), f"case {number}"


def test_a_batch_is_its_images():
    """Boxes are numbered through the batch; an image without boxes has background alone."""
    strides, grids = (4, 8, 16), [(16, 13), (8, 7), (4, 4)]
    for number in range(40):
        rng = np.random.default_rng(number)
        boxes = [random_boxes(rng, int(count), "crowded") for count in rng.integers(0, 7, int(rng.integers(1, 5)))]
        boxes = [tinynet.from_numpy(each) for each in boxes]
        found = assign_batch(boxes, grids, strides).numpy()
        first = 0
        for each, matched in zip(boxes, found):
            alone = assign_points(each, grids, strides).numpy()
            assert np.array_equal(np.where(alone < 0, alone, alone + first), matched)
            first += len(each)
    assert assign_batch([tinynet.zeros(0, 4)] * 2, [(2, 2)], [8]).tolist() == [[-1] * 4] * 2


def test_no_object_goes_without_a_cell():
    """A sliver between the centres of the cells, and a box with its centre outside of the grid."""
    boxes = tinynet.tensor([[17.0, 1, 18, 60], [60, 60, 90, 90]])
    found = assign_points(boxes, [(8, 8), (4, 4)], [8, 16])
    assert set(found.tolist()) == {-1, 0, 1}


def test_levels():
    sides = [0, 1, 9.99, 10, 19.9, 20, 39.9, 40, 900]
    boxes = tinynet.tensor([[5.0, 5, 5 + side, 5 + side] for side in sides], dtype=tinynet.float64)
    assert assign_levels(boxes, (4, 8, 16)).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert assign_levels(boxes, (4, 8, 16), scale=4).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert assign_levels(boxes, (16,)).tolist() == [0] * 9


def test_levels_and_points_refuse():
    boxes = tinynet.tensor([[0.0, 0, 4, 4], [4, 4, 0, 0]])
    with pytest.raises(ValueError, match="1 of 2 boxes have x2 < x1 or y2 < y1, the first is box 1"):
        assign_levels(boxes, (4, 8))
    with pytest.raises(ValueError, match=r"strides must grow from level to level, got \[8, 8\]"):
        assign_levels(boxes[:1], (8, 8))
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        assign_levels(boxes[:1], (8,), 0)
    with pytest.raises(ValueError, match="1 levels but 2 strides"):
        assign_points(boxes, [(4, 4)], [8, 16])
    with pytest.raises(ValueError, match="radius must not be negative, got -1"):
        assign_points(boxes, [(4, 4)], [8], radius=-1)
