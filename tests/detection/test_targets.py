"""Targets that do not fit are named with the image and the user's own numbers before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.detection.detectors import target
from tinynet.detection.targets import check_targets

IMAGES = [tinynet.rand(3, 40, 61), tinynet.rand(3, 55, 37)]
GOOD = target([[3, 4, 30, 33]])


def without(name: str) -> dict:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        (without("boxes"), ValueError, r"image 1 has no 'boxes'; it has \['labels'\]"),
        (without("labels"), ValueError, r"image 1 has no 'labels'; it has \['boxes'\]"),
        ([[3, 4, 30, 33]], TypeError, "expected a dict with boxes and labels for image 1, got list"),
        (GOOD | {"boxes": [[3, 4, 30, 33]]}, TypeError, "boxes of image 1 must be a tensor, got list"),
        (GOOD | {"boxes": tinynet.zeros(4)}, ValueError, r"image 1 must be \(M, 4\).*got shape \[4\]"),
        (GOOD | {"boxes": tinynet.zeros(0)}, ValueError, r"got shape \[0\]; without objects zeros\(0, 4\)"),
        (GOOD | {"boxes": tinynet.zeros(2, 5)}, ValueError, r"got shape \[2, 5\]"),
        (GOOD | {"labels": tinynet.zeros(2, dtype=tinynet.int64)}, ValueError, r"1 boxes, so its labels must be \(1"),
        (GOOD | {"labels": tinynet.zeros(1, 1, dtype=tinynet.int64)}, ValueError, r"got shape \[1, 1\]"),
        (GOOD | {"boxes": GOOD["boxes"].double()}, TypeError, r"image 1 are .*float64, the image is .*float32"),
        (GOOD | {"boxes": GOOD["boxes"].long()}, TypeError, "int64, the image is .*float32"),
        (GOOD | {"labels": tinynet.ones(1)}, TypeError, r"labels of image 1 must be int64.*use labels\.long\(\)"),
        (GOOD | {"labels": tinynet.tensor([7])}, ValueError, r"label 7 of box 0 in image 1, classes are 0\.\.6"),
        (GOOD | {"labels": tinynet.tensor([-1])}, IndexError, "label -1 of box 0 in image 1"),
        (GOOD | {"labels": tinynet.tensor([9]), "image_id": 139}, ValueError, r"in image 1 \(image_id 139\)"),
        (GOOD | {"labels": tinynet.tensor([9]), "image_id": tinynet.tensor([5])}, ValueError, r"\(image_id \[5\]\)"),
    ],
)
def test_what_does_not_fit(wrong, error, words) -> None:
    with pytest.raises(error, match=words):
        check_targets([GOOD, wrong], IMAGES, 7)


def test_as_many_targets_as_images() -> None:
    with pytest.raises(ValueError, match="2 images need as many targets, got 1"):
        check_targets([GOOD], IMAGES, 7)
    with pytest.raises(ValueError, match="in training mode"):
        check_targets(None, IMAGES, 7)


def test_every_degenerate_box_is_listed() -> None:
    first = target([[3, 4, 30, 33], [5, 5, 5, 9]])
    second = target([[9, 9, 4, 4], [1, 2, np.nan, 4], [0, 0, np.inf, 4], [0, 7, 4, 7]]) | {"image_id": 12}
    with pytest.raises(ValueError) as caught:
        check_targets([first, second], IMAGES, 7)
    message = str(caught.value)
    for words in (
        "image 0, box 1: [5.0, 5.0, 5.0, 9.0]",
        "image 1 (image_id 12), box 0: [9.0, 9.0, 4.0, 4.0]",
        "box 1: [1.0, 2.0, nan, 4.0]",
        "box 2: [0.0, 0.0, inf, 4.0]",
        "box 3: [0.0, 7.0, 4.0, 7.0]",
    ):
        assert words in message
    assert "box 0: [3.0" not in message
    many = target([[5, 5, 5, 9]] * 20)
    with pytest.raises(ValueError, match="and 12 more"):
        check_targets([many, GOOD], IMAGES, 7)


def test_what_fits() -> None:
    check_targets([target([]), target([[-5, -5, 900, 900], [1, 1, 1.001, 1.001]], [0, 6])], IMAGES, 7)
