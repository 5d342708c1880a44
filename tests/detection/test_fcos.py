"""FCOS's own: defaults, initialisation, scores, distances and the definition of its losses."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close, to_numpy
from tests.detection.detectors import TinyBackbone, small_detector, target
from tinynet import nn
from tinynet.detection.anchors import AnchorGenerator
from tinynet.detection.fcos import FCOS, FCOSHead


def test_defaults() -> None:
    model = FCOS(TinyBackbone(), 91)
    assert (model.score_thresh, model.nms_thresh, model.detections_per_img, model.topk_candidates) == (
        0.2, 0.6, 100, 1000
    )  # fmt: skip
    assert model.center_sampling_radius == 1.5
    assert model.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))
    assert (model.transform.min_size, model.transform.max_size) == ((800,), 1333)


def test_initialisation_and_names() -> None:
    head = small_detector("FCOS").head
    names = [f"conv.{number}" for number in (0, 1, 3, 4, 6, 7, 9, 10)]
    lasts = (["cls_logits"], ["bbox_reg", "bbox_ctrness"])
    for part, last in zip((head.classification_head, head.regression_head), lasts):
        assert {name.rpartition(".")[0] for name in part.state_dict()} == {*names, *last}
        assert [module.num_groups for module in part.modules() if isinstance(module, nn.GroupNorm)] == [32] * 4
        for layer in [module for module in part.modules() if isinstance(module, nn.Conv2d)]:
            assert abs(to_numpy(layer.weight).std() - 0.01) < 2e-3
    assert_close(head.classification_head.cls_logits.bias, np.full(3, -math.log(99), np.float32))
    assert not head.regression_head.bbox_reg.bias.any() and not head.regression_head.bbox_ctrness.bias.any()


def test_one_anchor_at_each_position() -> None:
    with pytest.raises(ValueError, match=r"one anchor at each position, the anchor_generator makes \[2\]"):
        FCOS(TinyBackbone(), 3, anchor_generator=AnchorGenerator(((8, 16),), ((1.0,),)))


def test_what_the_head_says() -> None:
    head = FCOSHead(32, 1, 3, num_convs=1)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    levels = [tinynet.rand(2, 32, 4, 5), tinynet.rand(2, 32, 2, 3)]
    outputs = {name: to_numpy(value) for name, value in head(levels).items()}
    assert {name: value.shape for name, value in outputs.items()} == {
        "cls_logits": (2, 26, 3), "bbox_regression": (2, 26, 4), "bbox_ctrness": (2, 26, 1)
    }  # fmt: skip
    assert (outputs["bbox_regression"] >= 0).all() and (outputs["bbox_regression"] == 0).any()
    second = to_numpy(head.regression_head.bbox_ctrness(head.regression_head.conv(levels[1])))
    assert_close(outputs["bbox_ctrness"][:, 20:, 0], second.reshape(2, 6))


def test_a_score_is_the_root_of_class_times_centreness() -> None:
    model = small_detector("FCOS")
    logits, centre = np.array([[0.3, -1.0]], np.float32), np.array([[0.7]], np.float32)
    scores = model.score({"cls_logits": tinynet.from_numpy(logits), "bbox_ctrness": tinynet.from_numpy(centre)})
    assert_close(scores, (1 / (1 + np.exp(-logits)) / (1 + np.exp(-centre))) ** 0.5, tolerance=1e-6)


def test_losses_by_definition() -> None:
    """Two images; sums over all points divided by the foreground of the batch, not of the image."""
    model = small_detector("FCOS")
    squares = np.array([[x - 4, y - 4, x + 4, y + 4] for y in range(0, 40, 8) for x in range(0, 40, 8)], np.float32)
    boxes = np.array([[2, 2, 30, 26]], np.float32)
    rng = np.random.default_rng(0)
    logits, centre = (rng.standard_normal((2, 25, columns)).astype(np.float32) for columns in (3, 1))
    distances = rng.uniform(0.2, 3, (2, 25, 4)).astype(np.float32)
    outputs = {"cls_logits": logits, "bbox_regression": distances, "bbox_ctrness": centre}
    given = [target(boxes.tolist(), [2]), target([])]
    anchors = [tinynet.from_numpy(squares)] * 2
    losses = model.compute_loss(given, {k: tinynet.from_numpy(v) for k, v in outputs.items()}, anchors, [25])

    focal = giou = entropy = 0.0
    claimed = 0
    for image in (0, 1):
        for row, square in enumerate(squares):
            x, y = square[:2] + 4
            left, top, right, bottom = x - 2, y - 2, 30 - x, 26 - y
            near = max(abs(x - 16), abs(y - 14)) < 1.5 * 8
            mine = image == 0 and near and min(left, top, right, bottom) > 0
            for column in range(3):
                p = 1 / (1 + math.exp(-logits[image, row, column]))
                hit = mine and column == 2
                focal -= 0.25 * (1 - p) ** 2 * math.log(p) if hit else 0.75 * p**2 * math.log(1 - p)
            if not mine:
                continue
            claimed += 1
            reach = 8 * distances[image, row]
            found = [x - reach[0], y - reach[1], x + reach[2], y + reach[3]]
            giou += 1 - generalized_iou(found, boxes[0])
            goal = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
            p = 1 / (1 + math.exp(-centre[image, row, 0]))
            entropy -= goal * math.log(p) + (1 - goal) * math.log(1 - p)
    assert claimed == 9
    assert losses["classification"].item() == pytest.approx(focal / claimed, rel=1e-5)
    assert losses["bbox_regression"].item() == pytest.approx(giou / claimed, rel=1e-5)
    assert losses["bbox_ctrness"].item() == pytest.approx(entropy / claimed, rel=1e-5)


def generalized_iou(a, b) -> float:
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    joint = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / joint - (hull - joint) / hull


def test_the_radius_of_the_centre_is_the_users() -> None:
    images, boxes = [tinynet.rand(3, 64, 64)], [target([[2, 2, 62, 62]])]
    claimed = []
    for radius in (0.6, 1.5, 9):
        model = small_detector("FCOS", center_sampling_radius=radius)
        model.head.compute_loss = lambda targets, outputs, anchors, matched: {"claimed": (matched[0] >= 0).sum()}
        claimed.append(model(images, boxes)["claimed"].item())
    assert 0 < claimed[0] < claimed[1] < claimed[2]
