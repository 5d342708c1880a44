"""The handwriting scenes: the recipe's numbers, the seed, and no test digit in a training scene."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import tinynet
from tinynet.data import HandwritingScenes, scenes
from tinynet.data.digits import Digits
from tinynet.errors import DataError


@pytest.fixture(scope="module")
def drawn() -> HandwritingScenes:
    return HandwritingScenes(count=200)


def test_items(drawn: HandwritingScenes) -> None:
    image, target = drawn[7]
    assert image.shape == (1, 128, 128) and image.dtype == tinynet.float32
    assert 0 <= image.min().item() < image.max().item() <= 1
    count = len(target["boxes"])
    assert target["boxes"].shape == (count, 4) and target["boxes"].dtype == tinynet.float32
    for key, dtype in (("labels", "int64"), ("area", "float32"), ("iscrowd", "int64")):
        assert target[key].shape == (count,) and target[key].numpy().dtype == dtype
    assert target["image_id"] == 7 and drawn.classes == ("digit",) and not target["labels"].numpy().any()
    boxes = target["boxes"].numpy()
    assert np.array_equal(target["area"].numpy(), (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def test_default_sizes() -> None:
    assert (len(HandwritingScenes(True)), len(HandwritingScenes(False))) == (2000, 400)


def test_digits_are_as_many_and_as_large_as_the_recipe_says(drawn: HandwritingScenes) -> None:
    counts, heights = [], []
    for index in range(len(drawn)):
        boxes = drawn.annotation(index)["boxes"]
        counts.append(len(boxes))
        heights.append(boxes[:, 3] - boxes[:, 1])
        assert boxes.min() >= 0 and boxes.max() <= 128
        x0, y0, x1, y1 = boxes.T
        shared_x = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
        shared_y = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
        apart = (shared_x <= -1) | (shared_y <= -1)
        assert (apart | np.eye(len(boxes), dtype=bool)).all()
    assert set(counts) == set(range(4, 10))
    octaves = np.histogram(np.log2(np.concatenate(heights)), [2.99, 4, 5, 6.01])[0] / sum(counts)
    assert octaves.sum() == 1 and octaves == pytest.approx([1 / 3] * 3, abs=0.06)  # evenly over 8 to 64


def test_the_boxes_hold_ink_and_the_rest_is_darker(drawn: HandwritingScenes) -> None:
    inside, outside = [], []
    for index in range(len(drawn)):
        image = drawn.pixels(index)[0] / 255
        mask = np.zeros(image.shape, bool)
        for x0, y0, x1, y1 in drawn.annotation(index)["boxes"].astype(int):
            mask[y0:y1, x0:x1] = True
            inside.append(np.percentile(image[y0:y1, x0:x1], 90))
        outside.append(image[~mask].mean())
    assert np.mean(inside) > 0.6 and 0.2 < np.mean(outside) < 0.32  # background .15 to .35 and a few strokes


def test_a_pasted_digit_fills_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clutter and with digits of solid ink, exactly the boxes differ from the background."""
    monkeypatch.setattr(scenes, "_draw_stroke", lambda canvas, rng: None)
    image, boxes, _ = scenes._scene(np.random.default_rng(3), [np.ones((8, 5), np.float32)], 128)
    mask = np.zeros((128, 128), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    bright = image > 0.475 * 255  # background at most .35, digits at least .6, noise .04
    assert (bright == mask).mean() > 0.999


def test_a_scene_depends_on_seed_part_and_index_alone(drawn: HandwritingScenes) -> None:
    few = HandwritingScenes(count=3)
    assert np.array_equal(few.images, drawn.images[:3])
    state = tinynet.get_rng_state().numpy().copy()
    np.random.seed(5)  # noqa: NPY002
    again = HandwritingScenes(count=3, classes=10)
    assert np.array_equal(again.images, few.images)
    assert np.array_equal(again.annotation(2)["boxes"], few.annotation(2)["boxes"])
    assert np.array_equal(tinynet.get_rng_state().numpy(), state)
    for other in (HandwritingScenes(count=3, seed=1), HandwritingScenes(False, count=3),
                  HandwritingScenes(count=3, tuning=True)):  # fmt: skip
        assert max((a == b).mean() for a in other.images for b in few.images) < 0.2  # nor the same background


@pytest.mark.parametrize("tuning", [False, True])
def test_no_digit_is_in_both_parts(tuning: bool) -> None:
    """By the picture: the 1,797 digits are all different."""
    parts = [scenes._digits(train, tuning) for train in (True, False)]
    pictures = [{digit.tobytes() + bytes(digit.shape) for digit in digits} for digits, _ in parts]
    sizes = [len(digits) for digits, _ in parts]
    assert sizes == ([1197, 240] if tuning else [1437, 360])
    assert len(pictures[0] & pictures[1]) <= 1  # two 1s may become the same bar when they are cropped
    if tuning:
        test = {digit.tobytes() + bytes(digit.shape) for digit in scenes._digits(False, False)[0]}
        assert len(test & (pictures[0] | pictures[1])) <= 1


def test_ten_classes_are_the_digits() -> None:
    data = HandwritingScenes(False, count=60, classes=10)
    assert data.classes == tuple("0123456789")
    labels = np.concatenate([data.annotation(index)["labels"] for index in range(60)])
    assert set(labels.tolist()) == set(range(10))
    digits, expected = scenes._digits(False, False)
    assert np.array_equal(expected, Digits(train=False).labels)
    rng = np.random.default_rng([0, 0, 5])
    _, _, chosen = scenes._scene(rng, digits, 128)
    assert np.array_equal(data.annotation(5)["labels"], expected[chosen])


def test_two_classes_say_what_else_is_in_the_scene(drawn: HandwritingScenes) -> None:
    data = HandwritingScenes(count=200, classes=2)
    assert data.classes == ("no giant", "giant") and np.array_equal(data.images, drawn.images)
    found = []
    for index in range(len(data)):
        target = data.annotation(index)
        giant = bool((target["boxes"][:, 3] - target["boxes"][:, 1] >= 48).any())
        assert (target["labels"] == giant).all()
        found.append(giant)
    assert 0.4 < np.mean(found) < 0.7
    heights = HandwritingScenes(count=30, size=256, classes=2)
    assert all((heights.annotation(n)["labels"] == (np.diff(heights.annotation(n)["boxes"][:, 1::2]).max() >= 96)).all()
               for n in range(30))  # fmt: skip


def test_each_box_has_the_label_of_its_digit() -> None:
    """Digits that their shapes tell apart: 0 is square, 1 half as wide."""
    for seed in range(20):
        digits = [np.ones((8, 8), np.float32), np.ones((8, 4), np.float32)]
        _, boxes, chosen = scenes._scene(np.random.default_rng(seed), digits, 128)
        assert [int((x1 - x0) / (y1 - y0) < 0.75) for x0, y0, x1, y1 in boxes] == chosen


def test_there_are_never_fewer_than_four_digits() -> None:
    """Also where large ones leave no room: wide digits on a scene of 64 pixels."""
    for seed in range(150):
        _, boxes, _ = scenes._scene(np.random.default_rng(seed), [np.ones((4, 7), np.float32)], 64)
        assert 4 <= len(boxes) <= 9


def test_annotations_are_copies(drawn: HandwritingScenes) -> None:
    before = drawn.annotation(0)["boxes"]
    drawn.annotation(0)["boxes"][:] = 0
    drawn[0][1]["boxes"].numpy()[:] = 0
    assert np.array_equal(drawn.annotation(0)["boxes"], before)


def test_statistics_and_size_limits(drawn: HandwritingScenes) -> None:
    assert drawn.mean == pytest.approx([drawn.images.mean() / 255], rel=1e-6)
    assert drawn.std == pytest.approx([drawn.images.std() / 255], rel=1e-6)
    assert drawn.size_limits == (12, 24) and drawn.channels == 1


def test_other_sizes() -> None:
    data = HandwritingScenes(count=40, size=96)
    boxes = np.concatenate([data.annotation(index)["boxes"] for index in range(40)])
    assert data[0][0].shape == (1, 96, 96) and boxes.max() <= 96 and (boxes[:, 3] - boxes[:, 1]).max() <= 48
    for wrong, message in (({"classes": 3}, "classes"), ({"size": 40}, "size"), ({"count": 0}, "count"),
                           ({"seed": -1}, "seed")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            HandwritingScenes(**wrong)


def test_without_scikit_learn_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="scikit-learn"):
        HandwritingScenes(count=1)
