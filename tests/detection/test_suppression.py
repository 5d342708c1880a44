"""nms and batched_nms against their definitions, a thousand random cases each; both of torchvision's paths."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.kernels.box_cases import KINDS, random_boxes, random_scores
from tests.kernels.test_boxes import suppressed_by_definition
from tinynet import detection
from tinynet.detection import suppression


def per_class(boxes, scores, classes, threshold):
    """Every class on its own, then all by descending score (NaN first), equal ones by position."""
    kept = []
    for number in set(classes.tolist()):
        members = np.flatnonzero(classes == number)
        kept += members[suppressed_by_definition(boxes[members], scores[members], threshold)].tolist()
    return sorted(kept, key=lambda i: (not np.isnan(scores[i]), -scores[i] if scores[i] >= 0 else 0, i))


def shifted(boxes, scores, classes, threshold):
    """One suppression of boxes moved apart, in their own precision."""
    if not len(boxes):
        return []
    with np.errstate(all="ignore"):
        apart = boxes + (classes.astype(boxes.dtype) * (boxes.max() + boxes.dtype.type(1)))[:, None]
    return suppressed_by_definition(apart, scores, threshold)


def cases(dtype=np.float32):
    for number in range(1000):
        rng = np.random.default_rng(number)
        count = int(rng.integers(0, 40))
        boxes = random_boxes(rng, count, KINDS[number % len(KINDS)], dtype)
        scores = random_scores(rng, count, number % 3 > 0, dtype)
        yield boxes, scores, rng.integers(0, 5, count), float(rng.choice([0, 0.3, 0.5, 0.6, rng.random()]))


def run(boxes, scores, classes, threshold):
    kept = detection.batched_nms(*map(tinynet.from_numpy, (boxes, scores, classes)), threshold)
    assert kept.dtype == tinynet.int64
    return kept.tolist()


def test_small_inputs_are_moved_apart():
    for number, case in enumerate(cases()):
        assert run(*case) == shifted(*case), f"case {number}"


def test_large_inputs_go_class_by_class(monkeypatch):
    monkeypatch.setattr(suppression, "PER_CLASS_ABOVE", -1)
    for number, case in enumerate(cases()):
        assert run(*case) == per_class(*case), f"case {number}"


def test_the_path_is_chosen_above_4000_values():
    """Halves of boxes overlap by 1/2; moved far away they do so no longer exactly, and the paths differ."""
    rng = np.random.default_rng(0)
    for count in (1000, 1001):
        boxes = random_boxes(rng, count, "random") * np.float32(7.3)
        halves = boxes[: count // 2].copy()
        halves[:, 2] = (halves[:, 0] + halves[:, 2]) / 2
        boxes[count // 2 : count // 2 * 2] = halves
        scores, classes = random_scores(rng, count, False), np.arange(count) % (count // 2)
        case = (boxes, scores, classes, 0.5)
        assert shifted(*case) != per_class(*case)
        assert run(*case) == (shifted(*case) if count == 1000 else per_class(*case))


def test_nms_over_tensors():
    boxes = tinynet.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], requires_grad=True)
    scores = tinynet.tensor([0.5, 0.9, 0.7], requires_grad=True)
    kept = detection.nms(boxes * 1, scores, 0.5)
    assert kept.tolist() == [1, 2] and kept.dtype == tinynet.int64 and not kept.requires_grad
    assert detection.nms(boxes.double(), scores.double(), 0.95).tolist() == [1, 2, 0]
    assert detection.nms(tinynet.zeros(0, 4), tinynet.zeros(0), 0.5).shape == (0,)
    wide = tinynet.cat([boxes, boxes], 1)[:, ::2].detach()
    assert detection.nms(wide, scores, 0.5).tolist() == detection.nms(wide.clone(), scores, 0.5).tolist()


def test_refused():
    boxes, scores = tinynet.zeros(3, 4), tinynet.zeros(3)
    with pytest.raises(ValueError, match=r"nms: boxes must be \(N, 4\), one box x1, y1, x2, y2 a row, got \(3, 5\)"):
        detection.nms(tinynet.zeros(3, 5), scores, 0.5)
    with pytest.raises(ValueError, match=r"nms: 3 boxes need scores of shape \(3,\), got \(2,\)"):
        detection.nms(boxes, scores[:2], 0.5)
    for threshold in (-0.1, 50, float("nan")):
        with pytest.raises(ValueError, match=rf"iou_threshold must be between 0 and 1, got {threshold}"):
            detection.nms(boxes, scores, threshold)
    with pytest.raises(TypeError, match="iou_threshold must be a number, got 'half'"):
        detection.nms(boxes, scores, "half")
    with pytest.raises(TypeError, match="boxes is float32 but scores is float64"):
        detection.nms(boxes, scores.double(), 0.5)
    with pytest.raises(TypeError, match="boxes must be float32 or float64, got int64"):
        detection.nms(boxes.long(), scores.long(), 0.5)
    with pytest.raises(ValueError, match=r"batched_nms: 3 boxes need idxs of shape \(3,\), got \(4,\)"):
        detection.batched_nms(boxes, scores, tinynet.zeros(4, dtype=tinynet.int64), 0.5)
    with pytest.raises(TypeError, match="idxs must be integers, got float32"):
        detection.batched_nms(boxes, scores, scores, 0.5)
