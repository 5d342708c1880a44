"""GeneralizedRCNNTransform: sizes, values, padding, boxes there and back; torch where it has the parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close, to_numpy
from tests.detection.detectors import target
from tinynet import nn
from tinynet.detection.transform import GeneralizedRCNNTransform, resize_boxes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def transform(min_size=64, max_size=96, mean=MEAN, std=STD, **options) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(min_size, max_size, mean, std, **options).eval()


@pytest.mark.parametrize(
    "size, resized, padded",
    [
        ((480, 640), (800, 1066), (800, 1088)),  # the short side decides; 1066.67 is cut
        ((427, 640), (800, 1199), (800, 1216)),
        ((333, 1000), (443, 1333), (448, 1344)),  # the long side decides
        ((640, 480), (1066, 800), (1088, 800)),
        ((800, 1333), (800, 1333), (800, 1344)),
    ],
)
def test_the_rule_of_sizes(size, resized, padded) -> None:
    resize = transform(800, 1333, (0.5,), (0.5,))
    batch, _ = resize([tinynet.zeros(1, *size)])
    assert batch.image_sizes == [resized] and batch.tensors.shape == (1, 1, *padded)


def test_images_lie_in_the_upper_left_corner_and_zeros_around() -> None:
    images = [tinynet.rand(3, 40, 61), tinynet.rand(3, 55, 37)]
    batch, targets = transform()(images)
    assert targets is None
    assert batch.image_sizes == [(62, 96), (95, 64)]
    assert batch.tensors.shape == (2, 3, 96, 96) and batch.tensors.dtype == tinynet.float32
    for each, (height, width) in zip(to_numpy(batch.tensors), batch.image_sizes):
        assert each[:, :height, :width].all()
        assert not each[:, height:].any() and not each[:, :, width:].any()


def test_pixels_are_normalised_before_they_are_mixed() -> None:
    """At the size it has, an image only loses its mean and is divided by its deviation; the border is 0 after that."""
    image = tinynet.rand(3, 50, 50)
    batch, _ = transform(50, 50, size_divisible=1)([image])
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
    assert_close(batch.tensors[0], (image.numpy() - mean) / std, tolerance=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(40, 61), (55, 37), (131, 90), (1, 1), (7, 300)])
def test_values_and_gradients_equal_torch(size, dtype) -> None:
    import torch

    rng = np.random.default_rng(0)
    array = rng.uniform(0, 1, (3, *size)).astype(dtype)
    ours = tinynet.from_numpy(array).requires_grad_()
    batch, _ = transform()([ours])
    cotangent = rng.standard_normal(batch.tensors.shape).astype(dtype)
    batch.tensors.backward(tinynet.from_numpy(cotangent))

    theirs = torch.from_numpy(array.copy()).requires_grad_()
    mean, std = (torch.tensor(values, dtype=theirs.dtype)[:, None, None] for values in (MEAN, STD))
    resized = torch.nn.functional.interpolate(
        ((theirs - mean) / std)[None], scale_factor=min(64 / min(size), 96 / max(size)), mode="bilinear",
        align_corners=False, recompute_scale_factor=True,
    )  # fmt: skip
    height, width = resized.shape[-2:]
    padded = torch.nn.functional.pad(resized, (0, -width % 32, 0, -height % 32))
    padded.backward(torch.from_numpy(cotangent))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert batch.image_sizes == [(height, width)]
    assert_close(batch.tensors, padded, "images", tolerance)
    assert_close(ours.grad, theirs.grad, "gradient", tolerance)


def test_boxes_move_with_each_axis_of_their_image() -> None:
    """Sizes are cut to whole pixels, so the two axes have different ratios; the ratios are float32."""
    given = target([[10, 20, 30, 40]], [2]) | {"image_id": 7}
    batch, targets = transform(800, 1333)([tinynet.zeros(3, 480, 640)], [given])
    assert batch.image_sizes == [(800, 1066)]
    x, y = np.float32(1066) / np.float32(640), np.float32(800) / np.float32(480)
    assert_close(targets[0]["boxes"], np.array([[10 * x, 20 * y, 30 * x, 40 * y]], np.float32), tolerance=1e-7)
    assert targets[0]["labels"] is given["labels"] and targets[0]["image_id"] == 7
    assert given["boxes"].tolist() == [[10, 20, 30, 40]]


def test_ratios_are_float32_also_for_float64_boxes() -> None:
    boxes = tinynet.tensor([[100.0, 100.0, 200.0, 200.0]], dtype=tinynet.float64)
    moved = resize_boxes(boxes, (480, 640), (800, 1066))
    assert moved.dtype == tinynet.float64
    assert moved[0, 1].item() == 100 * float(np.float32(800) / np.float32(480)) != 100 * 800 / 480
    assert resize_boxes(tinynet.zeros(0, 4), (480, 640), (800, 1066)).shape == (0, 4)


def test_detections_go_back_to_the_users_pixels() -> None:
    found = [{"boxes": tinynet.tensor([[0.0, 0.0, 1066.0, 800.0]]), "scores": tinynet.ones(1)}]
    back = transform().postprocess(found, [(800, 1066)], [(480, 640)])
    assert_close(back[0]["boxes"], np.array([[0, 0, 640, 480]], np.float32), tolerance=1e-6)
    assert back[0]["scores"] is found[0]["scores"]
    assert found[0]["boxes"].tolist() == [[0, 0, 1066, 800]]
    training = transform().train()
    assert training.postprocess(found, [(800, 1066)], [(480, 640)]) is found


def test_training_draws_one_of_several_sizes_and_evaluation_takes_the_last() -> None:
    several = transform([32, 48, 64], 999)
    image = [tinynet.rand(3, 40, 40)]
    assert several(image)[0].image_sizes == [(64, 64)]
    several.train()
    tinynet.manual_seed(3)
    sizes = [several(image)[0].image_sizes[0] for _ in range(40)]
    assert set(sizes) == {(32, 32), (48, 48), (64, 64)}
    tinynet.manual_seed(3)
    assert sizes == [several(image)[0].image_sizes[0] for _ in range(40)]


def test_fixed_size_is_width_and_height() -> None:
    fixed = transform(fixed_size=(70, 50), size_divisible=16)
    batch, targets = fixed([tinynet.rand(3, 100, 100)], [target([[10, 10, 20, 20]])])
    assert batch.image_sizes == [(50, 70)] and batch.tensors.shape == (1, 3, 64, 80)
    assert_close(targets[0]["boxes"], np.array([[7, 5, 14, 10]], np.float32), tolerance=1e-6)


def test_images_may_stay_as_they_are_in_training() -> None:
    skipping = transform(_skip_resize=True)
    image = [tinynet.rand(3, 33, 40)]
    assert skipping.train()(image)[0].image_sizes == [(33, 40)]
    assert skipping.eval()(image)[0].image_sizes != [(33, 40)]


def test_it_is_a_module_that_says_what_it_does() -> None:
    assert "min_size=(64,), max_size=96" in repr(transform())
    assert isinstance(transform(), nn.Module) and not list(transform().parameters())


class TestErrors:
    def test_sizes(self) -> None:
        for wrong in ((0, 96), (64, -1), ([], 96)):
            with pytest.raises(ValueError, match="must be positive"):
                transform(*wrong)

    @pytest.mark.parametrize(
        "images, error, words",
        [
            ([], ValueError, "at least one image"),
            ([np.zeros((3, 4, 4))], TypeError, r"tensors \(C, H, W\), image 0 is ndarray"),
            (tinynet.zeros(3, 40, 40), ValueError, r"image 0 has shape \[40, 40\]; pass \[image\]"),
            ([tinynet.zeros(3, 4, 4), tinynet.zeros(1, 3, 4, 4)], ValueError, r"image 1 has shape \[1, 3, 4, 4\]"),
            ([tinynet.zeros(1, 4, 4)], ValueError, "1 channels, but image_mean and image_std are for 3"),
            ([tinynet.zeros(3, 0, 4)], ValueError, r"image 0 has no pixels: shape \[3, 0, 4\]"),
            ([tinynet.zeros(3, 4, 4, dtype=tinynet.uint8)], TypeError, r"image 0 is .*uint8.*image\.float\(\) / 255"),
        ],
    )
    def test_images(self, images, error, words) -> None:
        with pytest.raises(error, match=words):
            transform()(images)

    def test_an_image_so_narrow_that_nothing_remains(self) -> None:
        with pytest.raises(ValueError, match=r"an image of 1 x 500 pixels is too narrow: scaled by 0\.2"):
            transform(10, 100)([tinynet.rand(3, 1, 500)])


def test_a_nan_stays_in_its_image() -> None:
    bad = tinynet.full((3, 40, 40), math.nan)
    batch, _ = transform()([tinynet.rand(3, 40, 40), bad])
    assert not batch.tensors[0].isnan().any() and batch.tensors[1].isnan().any()
