"""Labelled images in one array: what the classification data sets have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet import Tensor, from_numpy
from tinynet.errors import DataError
from tinynet.utils.data import Dataset


class ImageDataset(Dataset):
    """Images of one size with a class each; items are (standardised image (C, H, W) float32, label int).

    Args:
        images: (N, C, H, W) as stored, any real dtype; they are standardised item by item, so that a large
            set of bytes stays a set of bytes.
        labels: (N,) integers in [0, len(classes)).
        classes: the names of the classes.
        mean, std: in the units of `images`; an item is (image - mean) / std.

    Raises:
        DataError: images and labels that do not fit each other.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], mean: float, std: float
    ) -> None:
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise DataError(f"images {images.shape} need shape (N, C, H, W), labels {labels.shape} shape (N,)")
        wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
        if wrong.size:
            raise DataError(f"label {labels[wrong[0]]} of image {wrong[0]}: classes are 0..{len(classes) - 1}")
        self.images = images
        self.labels = labels.astype(np.int64)
        self.classes = tuple(classes)
        self.mean = float(mean)
        self.std = float(std)

    @property
    def background(self) -> float:
        """The value that a stored 0 (nothing drawn there) has in an item; transforms fill with it."""
        return -self.mean / self.std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = (self.images[index].astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        return from_numpy(image), int(self.labels[index])
