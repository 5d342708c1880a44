"""RetinaNet, RetinaNet v2 and FCOS against torchvision, and what all of them do with images, targets and scores.

torchvision's results are stored (tests/reference/torchvision_detectors.py); in float64 they are met to rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.comparison import to_numpy
from tests.detection.detectors import GRADIENT, LIBRARY, LOSS, TinyBackbone, small_detector, stored, target, unmatched
from tests.reference.families.detectors import CASES, IN_FLOAT64_ONLY, DetectorCase
from tests.reference.store import record

KINDS = ("RetinaNet", "FCOS")
IMAGES = [tinynet.rand(3, 40, 61), tinynet.rand(3, 55, 37)]


def described(case: DetectorCase) -> str:
    return case.name


def expected_of(case: DetectorCase) -> dict[str, np.ndarray]:
    prefix = f"{case.name}|"
    return {key.removeprefix(prefix): value for key, value in stored().items() if key.startswith(prefix)}


def filled(case: DetectorCase) -> Any:
    return case.fill(tinynet, case.build(LIBRARY))


def training_errors(case: DetectorCase, actual: dict[str, np.ndarray]) -> dict[str, float]:
    """The error of every loss and gradient, relative to the largest magnitude of what torchvision had."""
    expected = {name: value for name, value in expected_of(case).items() if " of image " not in name}
    assert actual.keys() == expected.keys()
    errors = {}
    for name, value in actual.items():
        kept = record(f"{case.name}|{name}", value).values if name.startswith("gradient") else value
        errors[name] = float(np.abs(kept.astype(np.float64) - expected[name]).max() / np.abs(expected[name]).max())
    return errors


@pytest.mark.usefixtures("uninitialised")
class TestAgainstTorchvision:
    @pytest.mark.parametrize("case", CASES, ids=described)
    def test_boxes_scores_and_labels(self, case: DetectorCase) -> None:
        found, expected = case.detections(tinynet, filled(case)), expected_of(case)
        for number in (0, 1):
            assert len(expected[f"scores of image {number}"]) >= 100, "the reference must be lively"
            assert unmatched(found, expected, number) == []
            for field in ("boxes", "scores", "labels"):
                assert found[f"{field} of image {number}"].dtype == expected[f"{field} of image {number}"].dtype

    @pytest.mark.parametrize("case", CASES, ids=described)
    def test_losses_and_gradients_of_head_and_pyramid_in_float32(self, case: DetectorCase) -> None:
        errors = training_errors(case, case.training(tinynet, filled(case), "float32"))
        wrong = {k: v for k, v in errors.items() if v > (LOSS if k.startswith("loss") else GRADIENT)}
        assert not wrong

    @pytest.mark.parametrize("case", CASES + IN_FLOAT64_ONLY, ids=described)
    def test_losses_and_gradients_of_head_and_pyramid_in_float64(self, case: DetectorCase) -> None:
        errors = training_errors(case, case.training(tinynet, filled(case).double(), "float64"))
        wrong = {k: v for k, v in errors.items() if v > (1e-9 if k.startswith("loss") else 1e-6)}
        assert not wrong

    def test_the_comparison_notices(self) -> None:
        """A box, a score, a label, a missing and a doubled detection; ties may change places."""
        expected = expected_of(CASES[2])
        for field, change in (("boxes", 0.06), ("scores", 2e-3), ("labels", 1)):
            actual = {name: value.copy() for name, value in expected.items()}
            actual[f"{field} of image 0"][-1] += change
            assert unmatched(actual, expected, 0), field
        fewer = {name: value[:-1] for name, value in expected.items()}
        assert unmatched(fewer, expected, 0)
        doubled = {name: np.concatenate([value[:-1], value[-2:-1]]) for name, value in expected.items()}
        assert unmatched(doubled, expected, 0)
        assert unmatched(expected, expected, 0) == []


@pytest.mark.parametrize("kind", KINDS)
class TestEvaluation:
    def test_a_dict_for_each_image(self, kind: str) -> None:
        model = small_detector(kind, score_thresh=0.0, nms_thresh=0.3, detections_per_img=7).eval()
        with tinynet.no_grad():
            found = model(IMAGES)
        assert [list(each) for each in found] == [["boxes", "scores", "labels"]] * 2
        for each, image in zip(found, IMAGES):
            boxes, scores, labels = (to_numpy(each[name]) for name in ("boxes", "scores", "labels"))
            assert boxes.shape == (7, 4) and scores.shape == labels.shape == (7,)
            assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
            assert (np.diff(scores) <= 0).all() and set(labels.tolist()) <= {0, 1, 2}
            assert (boxes >= 0).all() and (boxes[:, 2:] <= np.array(image.shape[:0:-1]) + 1e-4).all()

    def test_nothing_found(self, kind: str) -> None:
        with tinynet.no_grad():
            found = small_detector(kind, score_thresh=0.999).eval()(IMAGES)
        for each in found:
            assert each["boxes"].shape == (0, 4) and each["scores"].shape == each["labels"].shape == (0,)
            assert each["labels"].dtype == tinynet.int64

    def test_only_what_scores_above_the_threshold(self, kind: str) -> None:
        model = small_detector(kind, nms_thresh=1.0, topk_candidates=10**6, detections_per_img=10**6).eval()
        with tinynet.no_grad():
            model.score_thresh = 0.0
            scores = to_numpy(model(IMAGES[:1])[0]["scores"])
            model.score_thresh = float(np.sort(scores)[len(scores) // 2])
            found = to_numpy(model(IMAGES[:1])[0]["scores"])
        assert np.array_equal(found, scores[scores > model.score_thresh]) and 0 < len(found) < len(scores)

    def test_targets_are_ignored(self, kind: str) -> None:
        model = small_detector(kind, score_thresh=0.0).eval()
        with tinynet.no_grad():
            without, with_targets = model(IMAGES), model(IMAGES, [{}, {}])
        assert all(a["boxes"].equal(b["boxes"]) for a, b in zip(without, with_targets))

    def test_each_image_as_if_alone(self, kind: str) -> None:
        """Padding changes what the convolutions see at the border only, so images of one size are independent."""
        model = small_detector(kind, score_thresh=0.0, detections_per_img=5).eval()
        twice = [tinynet.rand(3, 40, 61), tinynet.rand(3, 40, 61)]
        with tinynet.no_grad():
            together, alone = model(twice), [model([image])[0] for image in twice]
        for a, b in zip(together, alone):
            assert np.abs(to_numpy(a["boxes"]) - to_numpy(b["boxes"])).max() < 1e-3

    def test_a_batch_of_one_size_is_a_list_too(self, kind: str) -> None:
        model = small_detector(kind, score_thresh=0.0).eval()
        batch = tinynet.rand(2, 3, 50, 50)
        with tinynet.no_grad():
            assert all(a["boxes"].equal(b["boxes"]) for a, b in zip(model(batch), model([batch[0], batch[1]])))

    def test_at_most_topk_of_a_level(self, kind: str) -> None:
        model = small_detector(kind, score_thresh=0.0, nms_thresh=1.0, topk_candidates=4, detections_per_img=999).eval()
        with tinynet.no_grad():
            found = model(IMAGES[:1])[0]
        levels, positions_of_the_last = 5, 1 if kind == "FCOS" else 9
        assert len(found["scores"]) == 4 * (levels - 1) + min(4, positions_of_the_last * 3)


@pytest.mark.parametrize("kind", KINDS)
class TestTraining:
    NAMES = {
        "RetinaNet": ["classification", "bbox_regression"],
        "FCOS": ["classification", "bbox_regression", "bbox_ctrness"],
    }

    def trained(self, kind: str, targets: list[dict[str, Any]], **options: Any) -> tuple[dict[str, float], Any]:
        model = small_detector(kind, **options)
        losses = model(IMAGES, targets)
        assert list(losses) == self.NAMES[kind]
        assert all(loss.shape == () and loss.dtype == tinynet.float32 for loss in losses.values())
        sum(losses.values()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        return {name: loss.item() for name, loss in losses.items()}, model

    def test_losses_and_finite_gradients(self, kind: str) -> None:
        losses, model = self.trained(kind, [target([[3, 4, 30, 33], [10, 10, 50, 20]]), target([[0, 0, 37, 55]])])
        assert all(0 < loss < 100 for loss in losses.values())
        assert all(parameter.grad.any() for parameter in model.head.parameters())

    def test_an_image_without_boxes(self, kind: str) -> None:
        losses, _ = self.trained(kind, [target([[3, 4, 30, 33]]), target([])])
        assert all(0 < loss < 100 for loss in losses.values())

    def test_no_boxes_at_all(self, kind: str) -> None:
        """Only the background is learned: regression losses are 0 and leave zero gradients, nothing is NaN."""
        losses, model = self.trained(kind, [target([]), target([])])
        assert losses.pop("classification") > 0
        assert set(losses.values()) == {0.0}
        assert not model.head.regression_head.bbox_reg.weight.grad.any()

    def test_boxes_smaller_than_a_pixel_and_outside_of_the_image(self, kind: str) -> None:
        self.trained(kind, [target([[3, 4, 3.01, 4.01], [-5, -5, 400, 300]]), target([[500, 500, 540, 530]])])

    def test_what_the_user_gave_is_not_changed(self, kind: str) -> None:
        given = [target([[3, 4, 30, 33]]), target([])]
        before = [{name: value.clone() for name, value in each.items()} for each in given]
        self.trained(kind, given)
        assert all(a[name].equal(b[name]) for a, b in zip(given, before) for name in a)

    def test_targets_are_needed(self, kind: str) -> None:
        with pytest.raises(ValueError, match=r"in training mode a detector needs them.*model\.eval\(\)"):
            small_detector(kind)(IMAGES)

    def test_labels_are_counted_with_the_background(self, kind: str) -> None:
        self.trained(kind, [target([[3, 4, 30, 33]], [2]), target([[3, 4, 30, 33]], [0])])
        with pytest.raises(ValueError, match=r"label 3 of box 0 in image 1, classes are 0\.\.2"):
            self.trained(kind, [target([[3, 4, 30, 33]]), target([[3, 4, 30, 33]], [3])])

    def test_degenerate_boxes_are_refused(self, kind: str) -> None:
        with pytest.raises(ValueError, match=r"image 1, box 0: \[5\.0, 5\.0, 5\.0, 9\.0\]"):
            self.trained(kind, [target([[3, 4, 30, 33]]), target([[5, 5, 5, 9]])])

    def test_in_float64(self, kind: str) -> None:
        images = [image.double() for image in IMAGES]
        targets = [target([[3, 4, 30, 33]]), target([])]
        for each in targets:
            each["boxes"] = each["boxes"].double()
        losses = small_detector(kind).double()(images, targets)
        assert all(loss.dtype == tinynet.float64 for loss in losses.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_with_one_map(kind: str) -> None:
    class OneMap(TinyBackbone):
        def forward(self, x: tinynet.Tensor) -> tinynet.Tensor:
            return self.stem(x)

    anchors = tinynet.detection.anchors.AnchorGenerator(((8,),), ((1.0,),))
    model = getattr(LIBRARY, kind)(OneMap(), 3, 64, 96, anchor_generator=anchors, score_thresh=0.0).eval()
    with tinynet.no_grad():
        assert len(model(IMAGES)[0]["boxes"]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_detector_is_made_of_is_checked(kind: str) -> None:
    with pytest.raises(ValueError, match="out_channels"):
        getattr(LIBRARY, kind)(tinynet.nn.ReLU(), 3)
    with pytest.raises(TypeError, match="should be of type AnchorGenerator or None, got OrderedDict"):
        getattr(LIBRARY, kind)(TinyBackbone(), 3, anchor_generator=OrderedDict())
