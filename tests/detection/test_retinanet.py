"""RetinaNet's own: torchvision's keys, counts, defaults and old names; norms, weights and eps; anchors; its losses."""

from __future__ import annotations

import inspect
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close, to_numpy
from tests.detection.detectors import small_detector, stored, target
from tinynet import nn
from tinynet.checkpoint import load_weights, save
from tinynet.detection import backbone, fcos, retinanet
from tinynet.detection.assignment import Matcher
from tinynet.detection.boxes import box_iou
from tinynet.detection.retinanet import (
    RetinaNet,
    RetinaNetClassificationHead,
    RetinaNetHead,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)
from tinynet.models import FrozenBatchNorm2d

BUILDERS = {
    "retinanet_resnet50_fpn": retinanet_resnet50_fpn,
    "retinanet_resnet50_fpn_v2": retinanet_resnet50_fpn_v2,
    "fcos_resnet50_fpn": fcos.fcos_resnet50_fpn,
}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def eps_of_frozen(model: nn.Module) -> set[float]:
    return {module.eps for module in model.modules() if isinstance(module, FrozenBatchNorm2d)}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Weights are found but not read: the calls of `load_weights`, and the backbone's."""
    calls: list[tuple[Any, ...]] = []

    def find(source: Any, architecture: str) -> Path:
        published = backbone.is_published_name(source)
        return Path("retinanet_resnet50_fpn_coco-eeacb38b.pth" if published else source)

    monkeypatch.setattr(backbone, "find_weights", find)
    monkeypatch.setattr(backbone, "load_weights", lambda model, path, architecture: calls.append((path, architecture)))
    monkeypatch.setattr(
        "tinynet.checkpoint.load_weights", lambda model, path, architecture: calls.append((path, architecture))
    )
    return calls


@pytest.mark.usefixtures("uninitialised")
class TestBuilders:
    @pytest.mark.parametrize("name", BUILDERS)
    def test_keys_and_shapes_are_torchvisions(self, name: str) -> None:
        expected = json.loads(stored()["states"].tobytes())[name]
        state = BUILDERS[name](weights_backbone=None).state_dict()
        assert {key: list(value.shape) for key, value in state.items()} == expected
        assert list(state) == list(expected)

    @pytest.mark.parametrize(
        "name, count, keys",
        [
            ("retinanet_resnet50_fpn", 34_014_999, 301),
            ("retinanet_resnet50_fpn_v2", 38_198_935, 362),
            ("fcos_resnet50_fpn", 32_269_600, 319),
        ],
    )
    def test_counts_with_pretrained_weights(self, name: str, count: int, keys: int, loaded: list) -> None:
        model = BUILDERS[name](weights="COCO_V1")
        assert (parameters(model), len(model.state_dict())) == (count, keys)
        assert [architecture for _, architecture in loaded] == [name], "and the backbone's own are not loaded"

    def test_defaults(self) -> None:
        def default(function: Any, name: str) -> Any:
            return inspect.signature(function).parameters[name].default

        backbones = {name: default(build, "weights_backbone") for name, build in BUILDERS.items()}
        assert backbones == {"retinanet_resnet50_fpn": "IMAGENET1K_V1", "retinanet_resnet50_fpn_v2": None,
                             "fcos_resnet50_fpn": "IMAGENET1K_V1"}  # fmt: skip
        assert all(default(build, "weights") is None for build in BUILDERS.values())
        model = retinanet_resnet50_fpn(weights_backbone=None)
        assert (model.score_thresh, model.nms_thresh, model.detections_per_img, model.topk_candidates) == (
            0.05, 0.5, 300, 1000
        )  # fmt: skip
        assert (model.proposal_matcher.high_threshold, model.proposal_matcher.low_threshold) == (0.5, 0.4)
        assert (model.transform.min_size, model.transform.max_size) == ((800,), 1333)
        assert model.head.classification_head.num_classes == 91

    def test_norms_are_frozen_where_something_is_pretrained(self, loaded: list) -> None:
        for name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn"):
            assert eps_of_frozen(BUILDERS[name](weights_backbone=None)) == set()
            assert eps_of_frozen(BUILDERS[name]()) == {1e-5}
            assert eps_of_frozen(BUILDERS[name](weights="own.pth")) == {1e-5}
        assert eps_of_frozen(retinanet_resnet50_fpn_v2(weights="COCO_V1")) == set()

    def test_eps_is_0_for_the_first_retinanets_published_weights_alone(self, loaded: list) -> None:
        for weights in ("COCO_V1", "DEFAULT", "folder/retinanet_resnet50_fpn_coco-eeacb38b.pth"):
            assert eps_of_frozen(retinanet_resnet50_fpn(weights=weights)) == {0.0}
        assert eps_of_frozen(fcos.fcos_resnet50_fpn(weights="COCO_V1")) == {1e-5}

    def test_what_trains(self, loaded: list) -> None:
        def trained(**options: Any) -> set[str]:
            body = retinanet_resnet50_fpn(**options).backbone.body
            return {name.split(".")[0] for name, each in body.named_parameters() if each.requires_grad}

        assert trained() == {"layer2", "layer3", "layer4"}
        assert trained(trainable_backbone_layers=0) == set()
        assert trained(trainable_backbone_layers=5) == {"conv1", "layer1", "layer2", "layer3", "layer4"}
        assert trained(weights_backbone=None) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
        with pytest.warns(UserWarning, match="trainable_backbone_layers=2 has no effect") as caught:
            assert len(trained(weights_backbone=None, trainable_backbone_layers=2)) == 6
        assert caught[0].filename.endswith("retinanet.py")
        with pytest.raises(ValueError, match=r"in the range \[0,5\], got 6"):
            retinanet_resnet50_fpn(trainable_backbone_layers=6)

    @pytest.mark.parametrize("name", BUILDERS)
    def test_published_weights_have_91_classes(self, name: str) -> None:
        with pytest.raises(ValueError, match="are for num_classes=91, got 3"):
            BUILDERS[name](weights="COCO_V1", num_classes=3)

    def test_a_checkpoint_of_ones_own(self, tmp_path: Path) -> None:
        """What was trained on ordinary norms loads into frozen ones, also with other numbers of classes."""
        model = retinanet_resnet50_fpn(weights_backbone=None, num_classes=2)
        for value in model.state_dict().values():
            value.fill_(1)
        save(model, tmp_path / "own")
        again = retinanet_resnet50_fpn(weights=tmp_path / "own", num_classes=2, score_thresh=0.3)
        assert eps_of_frozen(again) == {1e-5} and again.score_thresh == 0.3
        for name, value in again.state_dict().items():
            assert value.equal(model.state_dict()[name]), name
        with pytest.raises(ValueError, match="has 18 outputs, the model's 27"):
            retinanet_resnet50_fpn(weights=tmp_path / "own", num_classes=3)


def test_initialisation() -> None:
    model = small_detector("RetinaNet")
    for head in (model.head.classification_head, model.head.regression_head):
        for layer in [module for module in head.modules() if isinstance(module, nn.Conv2d)]:
            assert abs(to_numpy(layer.weight).std() - 0.01) < 1e-3 and abs(to_numpy(layer.weight).mean()) < 1e-3
    assert_close(model.head.classification_head.cls_logits.bias, np.full(27, -math.log(99), np.float32))
    assert not model.head.regression_head.bbox_reg.bias.any()
    normed = RetinaNetHead(32, 9, 3, norm_layer=lambda channels: nn.GroupNorm(4, channels))
    assert normed.regression_head.conv[0][0].bias is None


def test_anchors_follow_the_padded_size_and_not_powers_of_two() -> None:
    """At 800×1088, P6 is 13×17 and its strides 61 and 64, P7 7×9 with 114 and 120; 163,206 anchors in all."""
    anchors = small_detector("RetinaNet").anchor_generator
    grids = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]
    maps = [tinynet.zeros(1, 1, *grid) for grid in grids]
    batch = tinynet.detection.ImageList(tinynet.zeros(1, 1, 800, 1088), [(800, 1066)])
    made = to_numpy(anchors(batch, maps)[0])
    assert made.shape == (163_206, 4)
    assert made[0].tolist() == [-23, -11, 23, 11] and made[8].tolist() == [-18, -35, 18, 35]
    p7 = made[-9 * 7 * 9 :].reshape(7, 9, 9, 4)
    p6 = made[-9 * (13 * 17 + 7 * 9) : -9 * 7 * 9].reshape(13, 17, 9, 4)
    for level, stride in ((p6, (61, 64)), (p7, (114, 120))):
        assert (level[1, 0, 0] - level[0, 0, 0]).tolist() == [0, stride[0], 0, stride[0]]
        assert (level[0, 1, 0] - level[0, 0, 0]).tolist() == [stride[1], 0, stride[1], 0]


class TestOldNames:
    """conv.{0,2,4,6} of files from before torchvision 0.12."""

    def old(self, model: nn.Module) -> dict[str, tinynet.Tensor]:
        def name_of(match: re.Match[str]) -> str:
            return f"_head.conv.{2 * int(match[1])}."

        return {re.sub(r"_head\.conv\.(\d)\.0\.", name_of, name): value for name, value in model.state_dict().items()}

    def test_a_state_dict_and_a_file(self, tmp_path: Path) -> None:
        model = small_detector("RetinaNet")
        state = self.old(model)
        assert "head.regression_head.conv.6.bias" in state and "head.classification_head.conv.0.weight" in state
        assert not state.keys() & {name for name in model.state_dict() if ".0.weight" in name}
        by_hand, from_file = small_detector("RetinaNet"), small_detector("RetinaNet")
        by_hand.load_state_dict(dict(state))
        save(state, tmp_path / "old")
        load_weights(from_file, tmp_path / "old")
        for other in (by_hand, from_file):
            for name, value in model.state_dict().items():
                assert other.state_dict()[name].equal(value), name

    def test_current_files_say_their_version(self) -> None:
        state = small_detector("RetinaNet").state_dict()
        assert state._metadata["head.classification_head"] == {"version": 2}

    def test_both_names_at_once_are_refused(self) -> None:
        model = small_detector("RetinaNet")
        state = dict(model.state_dict())
        state["head.classification_head.conv.2.weight"] = state["head.classification_head.conv.1.0.weight"]
        with pytest.raises(ValueError, match=r'Unexpected key.*"head\.classification_head\.conv\.2\.weight"'):
            model.load_state_dict(state)


class TestLosses:
    def test_definition(self) -> None:
        """Against the formulas, anchor by anchor: focal loss of what is decided, L1 of the foreground's offsets."""
        model = small_detector("RetinaNet", fg_iou_thresh=0.5, bg_iou_thresh=0.4)
        rng = np.random.default_rng(0)
        corner = rng.uniform(0, 60, (30, 2))
        anchors = np.concatenate([corner, corner + rng.uniform(10, 40, (30, 2))], 1).astype(np.float32)
        boxes = anchors[[3, 17]] + np.float32(1.5)
        logits, codes = (rng.standard_normal((1, 30, columns)).astype(np.float32) for columns in (3, 4))
        given = {"boxes": tinynet.from_numpy(boxes), "labels": tinynet.tensor([2, 1])}
        outputs = {"cls_logits": tinynet.from_numpy(logits), "bbox_regression": tinynet.from_numpy(codes)}
        losses = model.compute_loss([given], outputs, [tinynet.from_numpy(anchors)])

        matched = to_numpy(model.proposal_matcher(box_iou(given["boxes"], tinynet.from_numpy(anchors))))
        foreground = int((matched >= 0).sum())
        assert foreground >= 2 and (matched == Matcher.BELOW_LOW_THRESHOLD).sum() > 20
        focal = offsets = 0.0
        for row, number in enumerate(matched):
            if number == Matcher.BETWEEN_THRESHOLDS:
                continue
            for column in range(3):
                p = 1 / (1 + math.exp(-logits[0, row, column]))
                hit = number >= 0 and [2, 1][number] == column
                focal -= 0.25 * (1 - p) ** 2 * math.log(p) if hit else 0.75 * p**2 * math.log(1 - p)
            if number >= 0:
                (ax, ay), (bx, by) = ((box[:2] + box[2:]) / 2 for box in (anchors[row], boxes[number]))
                (aw, ah), (bw, bh) = (box[2:] - box[:2] for box in (anchors[row], boxes[number]))
                wanted = [(bx - ax) / aw, (by - ay) / ah, math.log(bw / aw), math.log(bh / ah)]
                offsets += np.abs(codes[0, row] - wanted).sum()
        assert losses["classification"].item() == pytest.approx(focal / foreground, rel=1e-5)
        assert losses["bbox_regression"].item() == pytest.approx(offsets / foreground, rel=1e-5)

    def test_each_image_counts_alike(self) -> None:
        """Divided by an image's own foreground, then averaged: an empty image halves the loss of the boxes."""
        model = small_detector("RetinaNet")
        images = [tinynet.rand(3, 64, 64)] * 2
        boxes = target([[3, 4, 40, 43]])
        both, one = model(images, [boxes, boxes]), model(images, [boxes, target([])])
        assert one["bbox_regression"].item() == pytest.approx(both["bbox_regression"].item() / 2, rel=1e-5)

    def test_an_unknown_box_loss_is_named(self) -> None:
        model = small_detector("RetinaNet")
        model.head.regression_head._loss_type = "ciou"
        with pytest.raises(ValueError, match="ciou"):
            model([tinynet.rand(3, 64, 64)], [target([[3, 4, 40, 43]])])


def test_a_prior_of_ones_own() -> None:
    head = RetinaNetClassificationHead(8, 2, 3, prior_probability=0.5)
    assert not head.cls_logits.bias.any() and head([tinynet.rand(2, 8, 4, 5)]).shape == (2, 40, 3)


def test_rows_of_the_head_are_positions_then_anchors() -> None:
    """The row of position (y, x) and anchor a is (y·W + x)·A + a, its columns are channels a·K to a·K + K - 1."""
    head = RetinaNetClassificationHead(8, num_anchors=2, num_classes=3, prior_probability=0.5)
    x = tinynet.rand(2, 8, 4, 5)
    rows, maps = to_numpy(head([x])), to_numpy(head.cls_logits(head.conv(x)))
    for y, column, anchor in ((0, 0, 1), (2, 3, 0), (3, 4, 1)):
        assert_close(rows[1, (y * 5 + column) * 2 + anchor], maps[1, anchor * 3 : anchor * 3 + 3, y, column])


def test_public_names() -> None:
    assert RetinaNet is retinanet.RetinaNet and set(retinanet.__all__) <= set(vars(retinanet))
