"""Boxes: formats, areas, overlaps, clipping; values and gradients against torch, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.kernels.box_cases import KINDS, random_boxes
from tests.ops.against_torch import compare
from tests.reference.cases import Input
from tinynet import detection
from tinynet.autograd import gradcheck

FORMATS = ("xyxy", "xywh", "cxcywh")


def pairwise(lib, boxes1, boxes2, generalized):
    """IoU or GIoU of all pairs from the formulas, in whichever library: both agree on ties of max and min."""
    a, b = boxes1[:, None], boxes2[None]
    low, high = lib.maximum(a[..., :2], b[..., :2]), lib.minimum(a[..., 2:], b[..., 2:])
    size = (high - low).clamp(min=0)
    shared = size[..., 0] * size[..., 1]
    sizes = [box[..., 2:] - box[..., :2] for box in (a, b)]
    joint = sizes[0][..., 0] * sizes[0][..., 1] + sizes[1][..., 0] * sizes[1][..., 1] - shared
    if not generalized:
        return shared / joint
    around = (lib.maximum(a[..., 2:], b[..., 2:]) - lib.minimum(a[..., :2], b[..., :2])).clamp(min=0)
    hull = around[..., 0] * around[..., 1]
    return shared / joint - (hull - joint) / hull


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_on_a_thousand_cases(kind):
    torch = pytest.importorskip("torch")
    for number in range(200):
        rng = np.random.default_rng(number)
        first, second = (random_boxes(rng, int(rng.integers(0, 12)), kind) for _ in range(2))
        for function, generalized in ((detection.box_iou, False), (detection.generalized_box_iou, True)):
            ours = function(tinynet.from_numpy(first), tinynet.from_numpy(second)).numpy()
            theirs = pairwise(torch, torch.from_numpy(first), torch.from_numpy(second), generalized).numpy()
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["random", "whole", "crowded"])
@pytest.mark.parametrize("generalized", [False, True])
def test_gradients_of_overlaps(kind, generalized):
    def grown(rng, shape):
        return random_boxes(rng, shape[0], kind, np.float64) + [0, 0, 1, 1]

    def overlap(lib, F, boxes1, boxes2):
        if lib is tinynet:
            return (detection.generalized_box_iou if generalized else detection.box_iou)(boxes1, boxes2)
        return pairwise(lib, boxes1, boxes2, generalized)

    for first, second in ((5, 7), (1, 1), (0, 3)):
        compare(overlap, Input((first, 4), grown), Input((second, 4), grown))


def test_overlap_of_batches_and_formats():
    rng = np.random.default_rng(0)
    boxes = tinynet.from_numpy(random_boxes(rng, 24, "random").reshape(2, 3, 4, 4))
    iou = detection.box_iou(boxes, boxes[:, :, :2])
    assert iou.shape == (2, 3, 4, 2)
    assert_close(iou[1, 2], detection.box_iou(boxes[1, 2], boxes[1, 2, :2]))
    for fmt in FORMATS:
        converted = detection.box_convert(boxes[0, 0], "xyxy", fmt)
        corners = boxes[0, 0]
        assert_close(detection.box_iou(converted, converted, fmt), detection.box_iou(corners, corners), fmt, 1e-5)
        assert_close(detection.box_area(converted, fmt), detection.box_area(corners), fmt, 1e-5)


def test_formats():
    boxes = tinynet.tensor([[1.0, 2.0, 4.0, 8.0]])
    expected = {"xyxy": [1, 2, 4, 8], "xywh": [1, 2, 3, 6], "cxcywh": [2.5, 5, 3, 6]}
    for source in FORMATS:
        for target in FORMATS:
            given = tinynet.tensor([expected[source]], dtype=tinynet.float32)
            converted = detection.box_convert(given, source, target)
            assert converted.tolist() == [expected[target]]
            assert converted is not given and converted.data_ptr() != given.data_ptr()
    assert detection.box_convert(boxes.double(), "xyxy", "xywh").dtype == tinynet.float64


def test_differentiable():
    rng = np.random.default_rng(0)
    boxes = tinynet.from_numpy(random_boxes(rng, 3, "random", np.float64) + [0, 0, 1, 1]).requires_grad_()
    other = tinynet.from_numpy(random_boxes(rng, 2, "random", np.float64) + [0, 0, 1, 1]).requires_grad_()
    assert gradcheck(detection.generalized_box_iou, (boxes, other))
    assert gradcheck(lambda b: detection.box_iou(b, b + tinynet.tensor([1.0, 2, 3, 4], dtype=b.dtype)), (boxes,))
    for source in FORMATS:
        for target in FORMATS:
            assert gradcheck(lambda b, s=source, t=target: detection.box_convert(b, s, t), (boxes,))
    assert gradcheck(lambda b: detection.clip_boxes_to_image(b, (20, 30)), (boxes,))


def test_clip_and_small():
    boxes = tinynet.tensor([[-5.0, 3, 12, 40], [1, 1, 2, 9], [70, 70, 90, 90]])
    clipped = detection.clip_boxes_to_image(boxes, (20, 10))
    assert clipped.tolist() == [[0, 3, 10, 20], [1, 1, 2, 9], [10, 20, 10, 20]]
    assert detection.clip_boxes_to_image(tinynet.zeros(2, 0, 4), (5, 5)).shape == (2, 0, 4)
    assert detection.remove_small_boxes(clipped, 1).tolist() == [0, 1]
    assert detection.remove_small_boxes(clipped, 1.5).tolist() == [0]
    assert detection.remove_small_boxes(clipped, 0).dtype == tinynet.int64


def test_non_contiguous_boxes_and_integers():
    wide = np.arange(48, dtype=np.float32).reshape(6, 8)
    strided = tinynet.from_numpy(wide)[:, ::2]
    packed = tinynet.from_numpy(np.ascontiguousarray(wide[:, ::2]))
    assert_close(detection.box_iou(strided, strided), detection.box_iou(packed, packed))
    whole = tinynet.tensor([[0, 0, 4, 4], [2, 0, 6, 4]])
    assert detection.box_area(whole).tolist() == [16, 16]
    assert detection.box_iou(whole, whole).tolist()[0][1] == pytest.approx(1 / 3)


def test_refused():
    boxes = tinynet.zeros(3, 4)
    with pytest.raises(ValueError, match=r"boxes2 must be \(..., 4\), one box x1, y1, x2, y2 a row, got \(3, 5\)"):
        detection.box_iou(boxes, tinynet.zeros(3, 5))
    with pytest.raises(ValueError, match=r"box_iou: boxes1 must be \(..., N, 4\), got \(4,\)"):
        detection.box_iou(boxes[0], boxes)
    with pytest.raises(TypeError, match="box_area: boxes must be a Tensor, got ndarray"):
        detection.box_area(np.zeros((3, 4)))
    with pytest.raises(TypeError, match=r"box_area: boxes must hold numbers, got tinynet\.bool"):
        detection.box_area(boxes > 0)
    with pytest.raises(ValueError, match="box_convert: the format must be one of xyxy, xywh, cxcywh, got 'yxyx'"):
        detection.box_convert(boxes, "xyxy", "yxyx")
    with pytest.raises(ValueError, match="an image cannot be -2 high and 5 wide"):
        detection.clip_boxes_to_image(boxes, (-2, 5))
    with pytest.raises(ValueError, match="min_size must not be negative, got -1"):
        detection.remove_small_boxes(boxes, -1)
    with pytest.raises(ValueError, match=r"remove_small_boxes: boxes must be \(N, 4\)"):
        detection.remove_small_boxes(boxes.unsqueeze(0), 1)


def test_ordered_boxes():
    good = tinynet.tensor([[0.0, 0, 1, 1], [0, 0, 0, 5]])
    detection.require_ordered("image 7", good)
    with pytest.raises(ValueError, match=r"image 7: 1 of 2 boxes have x2 <= x1 or y2 <= y1, the first is box 1"):
        detection.require_ordered("image 7", good, strictly=True)
    inverted = tinynet.tensor([[0.0, 0, 1, 1], [3, 0, 1, 5], [0, 9, 1, 5]])
    with pytest.raises(ValueError, match=r"2 of 3 boxes have x2 < x1 or y2 < y1, the first is box 1: \[3.0, "):
        detection.require_ordered("image 7", inverted)
    with pytest.raises(ValueError, match=r"1 of 1 boxes are not finite, the first is box 0: \[nan, 0.0, 1.0, 1.0\]"):
        detection.require_ordered("image 7", tinynet.tensor([[float("nan"), 0, 1, 1]]))
    detection.require_ordered("image 7", tinynet.zeros(0, 4), strictly=True)
