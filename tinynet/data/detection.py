"""Images with boxes: what the detection data sets have in common, and how their items become batches.

An item is (image, target) as in torchvision's reference data sets. The image is a float32 tensor (C, H, W) in
[0, 1], not standardised (`mean` and `std` say how to). The target is a dict:

    boxes     float32 (n, 4), (x0, y0, x1, y1) in pixels of the item, 0 <= x0 < x1 <= W, 0 <= y0 < y1 <= H
    labels    int64 (n,), places in `classes` (0 is a class, not the background)
    image_id  int
    area      float32 (n,), in square pixels
    iscrowd   int64 (n,), 1 where a box stands for a crowd of objects
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tinynet import Tensor, from_numpy
from tinynet.utils.data import Dataset

Target = dict[str, Any]
BoxTransform = Callable[[np.ndarray, Target], tuple[np.ndarray, Target]]

STATISTICS_IMAGES = 200  # that mean and std are measured on


class DetectionDataset(Dataset):
    """Base of the detection data sets; `pixels` and `annotation` are what the others define.

    Attributes:
        classes: names; a label is a place in them.
        transforms: called with (image, target) as NumPy arrays before they become tensors; see `box_transforms`.
        size_limits: two lengths in pixels of the items. An object is small below the first, large above the
            second, by the square root of its area.
    """

    size_limits: tuple[float, float] = (32.0, 96.0)  # COCO's

    def __init__(self, classes: Sequence[str], transforms: BoxTransform | None = None) -> None:
        self.classes = tuple(classes)
        self.transforms = transforms

    def pixels(self, index: int) -> np.ndarray:
        """The image as stored: uint8 (C, H, W)."""
        raise NotImplementedError

    def annotation(self, index: int) -> Target:
        """The target as NumPy arrays of the caller's own, before any transform."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image = self.pixels(index).astype(np.float32) / np.float32(255)
        target = self.annotation(index)
        if self.transforms is not None:
            image, target = self.transforms(image, target)
        tensors = {key: from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in target.items()}
        return from_numpy(np.ascontiguousarray(image)), tensors

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        count = min(len(self), STATISTICS_IMAGES)
        total: Any = 0.0
        squares: Any = 0.0
        pixels = 0
        for index in np.linspace(0, len(self) - 1, count).astype(int):
            values = self.pixels(index).reshape(self.channels, -1) / 255.0
            total = total + values.sum(axis=1)
            squares = squares + np.square(values).sum(axis=1)
            pixels += values.shape[1]
        mean = total / pixels
        std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))  # an all-black set can still be divided by
        return tuple(mean.tolist()), tuple(std.tolist())

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, in [0, 1], over up to 200 images of this data set."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, over the same images."""
        return self._statistics[1]

    @property
    def channels(self) -> int:
        return len(self.pixels(0))


def make_target(boxes: Any, labels: Any, image_id: int, area: Any = None, iscrowd: Any = None) -> Target:
    """A target of NumPy arrays in their right shapes and dtypes, also where there is no box."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    if area is None:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    crowds = np.zeros(len(boxes), np.int64) if iscrowd is None else np.array(iscrowd, np.int64).reshape(-1)
    return {
        "boxes": boxes,
        "labels": np.array(labels, np.int64).reshape(-1),
        "image_id": image_id,
        "area": np.array(area, np.float32).reshape(-1),
        "iscrowd": crowds,
    }


def collate_detection(batch: Sequence[tuple[Tensor, Target]]) -> tuple[Tensor | list[Tensor], list[Target]]:
    """The `collate_fn` of a DataLoader over detection data: images and targets apart.

    Images of one size become a tensor (B, C, H, W); where sizes differ they stay a list, which torchvision's
    detectors take. Targets stay a list, because each has its own number of boxes.
    """
    images = [image for image, _ in batch]
    targets = [target for _, target in batch]
    if len({tuple(image.shape) for image in images}) != 1:
        return images, targets
    return from_numpy(np.stack([image.numpy() for image in images])), targets
