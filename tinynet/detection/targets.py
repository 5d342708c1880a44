"""What a detector is given, checked and explained before anything runs: images, and boxes with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet import Tensor, float32, float64, int64
from tinynet.errors import DtypeError, LabelError, ShapeError

SHOWN = 8  # boxes listed in a message


def check_images(images: Sequence[Tensor], channels: int) -> None:
    """Images are a non-empty list of floating tensors (C, H, W).

    Raises:
        TypeError: something else than tensors, or integers.
        ShapeError: no image, another number of dimensions or channels, or an image without pixels.
    """
    if len(images) == 0:
        raise ShapeError("images: expected at least one image, got an empty list")
    for index, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise TypeError(f"images: expected a list of tensors (C, H, W), image {index} is {type(image).__name__}")
        shape = list(image.shape)
        if len(shape) != 3:
            hint = "; pass [image], a list of images" if len(shape) == 2 else ""
            raise ShapeError(f"images: each must be (C, H, W), image {index} has shape {shape}{hint}")
        if shape[0] != channels:
            raise ShapeError(
                f"images: image {index} has shape {shape}: {shape[0]} channels, but image_mean and image_std are for "
                f"{channels}"
            )
        if 0 in shape:
            raise ShapeError(f"images: image {index} has no pixels: shape {shape}")
        if image.dtype not in (float32, float64):
            raise DtypeError(
                f"images: expected floating values from 0 to 1, image {index} is {image.dtype}; "
                "divide bytes by 255: image.float() / 255"
            )


def check_targets(
    targets: Sequence[dict[str, Tensor]] | None, images: Sequence[Tensor], num_classes: int, background: bool = True
) -> None:
    """One target for each image: "boxes" (M, 4) as x1, y1, x2, y2 in its pixels, "labels" (M,) int64; M may be 0.

    `background`: whether class 0 is the background, for the message.

    Raises:
        ValueError: no targets, not as many as images, or a key is missing.
        TypeError: other dtypes than the image's for boxes and int64 for labels.
        ShapeError: other shapes, or boxes without positive width and height: all of them are listed.
        LabelError: a label outside of 0..num_classes - 1.
    """
    if targets is None:
        raise ValueError("targets: in training mode a detector needs them; for detections, call model.eval() first")
    if len(targets) != len(images):
        raise ValueError(f"targets: {len(images)} images need as many targets, got {len(targets)}")
    for index, (target, image) in enumerate(zip(targets, images)):
        _check_target(target, _called(index, target), image.dtype, num_classes, background)
    _refuse_degenerate(targets)


def _called(index: int, target: Any) -> str:
    """The image by its place in the batch and, where the data set gave it one, its id."""
    given = target.get("image_id") if isinstance(target, dict) else None
    identity = given.tolist() if isinstance(given, Tensor) else given
    return f"image {index}" if identity is None else f"image {index} (image_id {identity})"


def _check_target(target: Any, name: str, dtype: Any, num_classes: int, background: bool) -> None:
    if not isinstance(target, dict):
        raise TypeError(f"targets: expected a dict with boxes and labels for {name}, got {type(target).__name__}")
    for key in ("boxes", "labels"):
        if key not in target:
            raise ValueError(f"targets: {name} has no {key!r}; it has {sorted(map(str, target))}")
        if not isinstance(target[key], Tensor):
            raise TypeError(f"targets: {key} of {name} must be a tensor, got {type(target[key]).__name__}")
    boxes, labels = target["boxes"], target["labels"]
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(
            f"targets: boxes of {name} must be (M, 4) as x1, y1, x2, y2, got shape {list(boxes.shape)}; "
            "without objects zeros(0, 4)"
        )
    if labels.ndim != 1 or len(labels) != len(boxes):
        raise ShapeError(
            f"targets: {name} has {len(boxes)} boxes, so its labels must be ({len(boxes)},), "
            f"got shape {list(labels.shape)}"
        )
    if boxes.dtype != dtype:
        raise DtypeError(f"targets: boxes of {name} are {boxes.dtype}, the image is {dtype}; use boxes.to(image.dtype)")
    if labels.dtype != int64:
        raise DtypeError(f"targets: labels of {name} must be int64, got {labels.dtype}; use labels.long()")
    wrong = [(row, label) for row, label in enumerate(labels.tolist()) if not 0 <= label < num_classes]
    if wrong:
        row, label = wrong[0]
        raise LabelError(
            f"targets: label {label} of box {row} in {name}, classes are 0..{num_classes - 1}"
            + " (num_classes counts the background, 0)" * background
        )


def _refuse_degenerate(targets: Sequence[dict[str, Tensor]]) -> None:
    found = []
    for index, target in enumerate(targets):
        boxes = target["boxes"]._array
        proper = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        for row in np.flatnonzero(~proper).tolist():
            found.append(f"{_called(index, target)}, box {row}: {boxes[row].tolist()}")
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ShapeError(
            "targets: all boxes need finite corners with x1 < x2 and y1 < y2, but "
            + "; ".join(found[:SHOWN])
            + more
        )
