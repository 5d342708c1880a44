"""The small detectors against the same nets in torch; losses and detections against their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close, assert_same_results
from tinynet import from_numpy
from tinynet.detection import PyramidDetector, SmallResNet, batched_nms
from tinynet.detection.designs import DESIGNS, build_detector
from tinynet.errors import DtypeError, LabelError, ShapeError

LEVELS = (2, 3, 4, 5)
MEAN, STD = (0.4, 0.5), (0.2, 0.3)


def small(design: str = "fpn", **options: Any) -> PyramidDetector:
    """Two channels, three classes, narrow; float64."""
    given = {"in_channels": 2, "width": 4, "channels": 8, "levels": LEVELS, "mean": MEAN, "std": STD}
    return build_detector(design, ["a", "b", "c"], **{**given, **options}).double()


def images(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).random((count, 2, height, width))


def targets(dtype: type = np.float64) -> list[dict[str, np.ndarray]]:
    """Boxes of all levels, one image without any, one object inside of another."""
    boxes = [[[3, 4, 10, 11], [20, 8, 50, 44], [30, 20, 38, 30]], [], [[0, 0, 64, 60], [50, 50, 63, 62]]]
    labels = [[0, 2, 1], [], [1, 1]]
    return [{"boxes": np.array(each, dtype).reshape(-1, 4), "labels": np.array(kinds, np.int64)}
            for each, kinds in zip(boxes, labels)]  # fmt: skip


def tensors(given: list[dict[str, np.ndarray]]) -> list[dict[str, tinynet.Tensor]]:
    return [{name: from_numpy(value) for name, value in target.items()} for target in given]


def livelier(model: PyramidDetector) -> PyramidDetector:
    """Random norms and a head that says something, so that no gradient is tiny and no box like the other."""
    rng = np.random.default_rng(1)
    with tinynet.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(from_numpy(rng.normal(1.0 * name.endswith("weight"), 0.2, parameter.shape)))
            elif "predictors" in name:
                parameter.copy_(from_numpy(rng.normal(0, 0.1, parameter.shape)))
    return model


@pytest.mark.torch
@pytest.mark.parametrize("design", DESIGNS)
def test_values_losses_and_gradients_are_torchs(design: str) -> None:
    """The whole detector in float64 and training mode; of an image pyramid the copy that the seed draws."""
    from tests.detection import pyramid_twin

    tinynet.manual_seed(4)
    model = livelier(small(design, layers=(1, 2, 1, 1)))
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    twin, again = (pyramid_twin.Twin(state, MEAN, STD) for _ in range(2))
    batch, truth = images(3), targets()

    outputs = model(from_numpy(batch))
    expected = twin.outputs(design, batch, LEVELS)
    assert model.strides == tuple(stride for stride, _ in expected)
    for output, (stride, values) in zip(outputs, expected):
        assert output.stride == stride
        assert_close(output.values, values, output.name)
        assert_close(tinynet.cat([output.logits, output.offsets], 1), values, output.name)

    only = None
    if design == "image-pyramid":
        tinynet.manual_seed(7)
        only = int(tinynet.randint(0, 3, (1,)).item())
        tinynet.manual_seed(7)
    found = model.loss(from_numpy(batch), tensors(truth))
    wanted = pyramid_twin.losses(again.outputs(design, batch, LEVELS, only), truth, 2.5, model.strides, only)
    assert_same_results(found, wanted)
    sum(found.values()).backward()
    sum(wanted.values()).backward()
    used = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert_same_results(used, {name: p.grad for name, p in again.parameters.items() if p.grad is not None}, 1e-7)
    unused = model.named_parameters() if only is not None else ()
    assert all(name in used or ".norms." in name for name, _ in unused)
    assert only is not None or len(used) == len(list(model.parameters()))


def test_an_image_pyramid_learns_from_one_copy_at_a_time() -> None:
    """The copies are drawn from tinynet's generator: all of them come up, and the same ones with the same seed."""
    model, batch, truth = small("image-pyramid"), from_numpy(images(3)), tensors(targets())
    seen: list[tuple[str, ...]] = []
    model.head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[-2:])))
    for _ in range(2):
        tinynet.manual_seed(0)
        for _ in range(12):
            model.loss(batch, truth)
    assert len(seen) == 24 and seen[:12] == seen[12:] and set(seen) == {(4, 4), (8, 8), (16, 16)}


def test_nothing_to_find_is_a_loss_too() -> None:
    model = small()
    empty = [{"boxes": tinynet.zeros(0, 4, dtype=tinynet.float64), "labels": tinynet.zeros(0, dtype=tinynet.int64)}] * 2
    losses = model.loss(from_numpy(images(2)), empty)
    assert losses["box"].item() == 0 and 0 < losses["classification"].item() < 10
    sum(losses.values()).backward()
    assert all(np.isfinite(parameter.grad.numpy()).all() for parameter in model.parameters())


def test_the_first_scores_are_low() -> None:
    """One percent, so that the background does not swamp the first losses; boxes begin at .75 of the largest size."""
    model = small()
    outputs = model(from_numpy(images(2)))
    for output in outputs:
        assert np.abs(output.logits.sigmoid().detach().numpy() - 0.01).max() < 0.01
        assert np.abs(output.offsets.detach().numpy()).max() < 0.5


def test_exploding_sizes_stay_finite() -> None:
    model = small()
    with tinynet.no_grad():
        model.head.predictors[0].bias[-4:] = 1e6
    losses = model.loss(from_numpy(images(3)), tensors(targets()))
    assert all(math.isfinite(loss.item()) for loss in losses.values())


# --- what goes in ---------------------------------------------------------------------------------------------------


def test_images_of_any_size_are_standardised_and_padded_with_the_mean() -> None:
    model = small()
    given = [images(1, 40, 70)[0], images(1, 64, 20)[0]]
    batch = model.batch([from_numpy(image) for image in given]).numpy()
    assert batch.shape == (2, 2, 64, 96)
    for place, image in zip(batch, given):
        expected = (image - np.reshape(MEAN, (2, 1, 1))) / np.reshape(STD, (2, 1, 1))
        assert_close(place[:, : image.shape[1], : image.shape[2]], expected)
        assert not place[:, image.shape[1] :].any() and not place[:, :, image.shape[2] :].any()


def test_a_batch_is_its_images() -> None:
    model = livelier(small()).eval()
    batch = from_numpy(images(3))
    for found, alone in zip(model.detect(batch), [model.detect([image])[0] for image in batch]):
        assert_same_results(found, alone, 1e-9)


def test_bad_images_and_targets_are_refused_by_name() -> None:
    model, batch, truth = small(), from_numpy(images(3)), tensors(targets())
    with pytest.raises(ShapeError, match=r"image 0 has shape \[3, 64, 64\]: 3 channels.*2"):
        model([tinynet.rand(3, 64, 64)])
    with pytest.raises(ShapeError, match=r"each must be \(C, H, W\), image 0 has shape \[64, 64\]; pass \[image\]"):
        model(batch[0])
    with pytest.raises(DtypeError, match=r"image 1 is tinynet\.uint8"):
        model([batch[0], tinynet.zeros(2, 8, 8, dtype=tinynet.uint8)])
    with pytest.raises(LabelError, match=r"label 3 of box 1 in image 2, classes are 0..2$"):
        model.loss(batch, [*truth[:2], {**truth[2], "labels": tinynet.tensor([0, 3])}])
    inverted = {**truth[0], "boxes": truth[0]["boxes"][:, [2, 1, 0, 3]]}
    with pytest.raises(ShapeError, match=r"image 0 \(image_id 17\), box 0: \[10.0, 4.0, 3.0, 11.0\]"):
        model.loss(batch, [{**inverted, "image_id": 17}, *truth[1:]])
    with pytest.raises(ValueError, match="3 images need as many targets, got 2"):
        model.loss(batch, truth[:2])


# --- what comes out -------------------------------------------------------------------------------------------------


def detections_by_definition(model: PyramidDetector, outputs: list[Any], image: int, size: tuple[int, int]) -> Any:
    """Cell by cell: boxes, scores and labels above the threshold, best first, before NMS."""
    found = []
    for output in outputs:
        values = output.values.numpy()[image]
        for row in range(values.shape[1]):
            for column in range(values.shape[2]):
                x, y, w, h = values[-4:, row, column]
                x, y = output.stride * (column + 0.5 + x), output.stride * (row + 0.5 + y)
                w, h = (output.stride * math.exp(side + math.log(0.75 * model.scale)) for side in (w, h))
                box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clip(0, [size[1], size[0]] * 2)
                for label, logit in enumerate(values[:-4, row, column]):
                    score = 1 / (1 + math.exp(-logit))
                    if score > model.score_thresh:
                        found.append((score, label, box))
    found.sort(key=lambda each: -each[0])
    return found[: model.topk_candidates]


@pytest.mark.parametrize(
    ("design", "options"),
    [
        ("fpn", {}),
        ("c4", {"score_thresh": 0.6, "detections_per_img": 5}),
        ("image-pyramid", {"topk_candidates": 30, "nms_thresh": 0.3}),
    ],
)
def test_detections_by_definition(design: str, options: dict[str, Any]) -> None:
    model = livelier(small(design, **options)).eval()
    given = [from_numpy(images(1, 40, 70)[0]), from_numpy(images(1, 64, 20)[0])]
    with tinynet.no_grad():
        outputs = model(given)
    for index, (image, found) in enumerate(zip(given, model.detect(given))):
        assert set(found) == {"boxes", "scores", "labels"} and found["labels"].dtype == tinynet.int64
        candidates = detections_by_definition(model, outputs, index, image.shape[-2:])
        boxes = from_numpy(np.array([box for _, _, box in candidates]))
        scores = from_numpy(np.array([score for score, _, _ in candidates]))
        labels = from_numpy(np.array([label for _, label, _ in candidates]))
        keep = batched_nms(boxes, scores, labels, model.nms_thresh)[: model.detections_per_img]
        assert len(found["scores"]) == len(keep) > 0
        expected = {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}
        assert_same_results(found, expected, 1e-9)


def test_no_detection_is_an_empty_one() -> None:
    model = small(score_thresh=0.99).eval()
    for found in model.detect(from_numpy(images(2))):
        assert {name: tuple(value.shape) for name, value in found.items()} == {
            "boxes": (0, 4), "scores": (0,), "labels": (0,),
        }  # fmt: skip


def test_detecting_leaves_no_tape_and_no_trace() -> None:
    model = livelier(small()).eval()
    before = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    found = model.detect(from_numpy(images(2)))
    assert not any(value.requires_grad for each in found for value in each.values())
    assert before == {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


# --- the parts ------------------------------------------------------------------------------------------------------


def test_levels_share_the_heads_weights_but_not_its_norms() -> None:
    names = {name for name, _ in small("fpn").head.named_parameters()}
    convolutions = {name for name in names if "norms" not in name}
    assert convolutions == {"convolutions.0.0.weight", "convolutions.0.1.weight", "predictors.0.weight",
                            "predictors.0.bias"}  # fmt: skip
    assert len(names - convolutions) == 4 * 2 * 2
    own = {name for name, _ in small("hierarchy").head.named_parameters()}
    assert len([name for name in own if "predictors" in name]) == 4 * 2


def test_the_backbone() -> None:
    backbone = SmallResNet((1, 2, 2, 1), 16, 1)
    assert backbone(tinynet.rand(2, 1, 64, 96)).shape == (2, 512, 2, 3)
    assert [len(getattr(backbone, f"layer{stage}")) for stage in range(1, 5)] == [1, 2, 2, 1]
    with pytest.raises(ValueError, match=r"blocks of four stages, got \[1, 0, 1, 1\]"):
        SmallResNet((1, 0, 1, 1))


def test_bad_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mean \[0.4, 0.5\] and std \[0.0, 1.0\] must have a value, std > 0"):
        small(std=(0.0, 1.0))
