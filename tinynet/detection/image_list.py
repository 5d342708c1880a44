"""A batch of images of different sizes (``torchvision.models.detection.image_list``)."""

from __future__ import annotations

from typing import Any

from tinynet import Tensor

__all__ = ["ImageList"]


class ImageList:
    """Images padded at the bottom and right to one size, with the sizes they had.

    `tensors` is (N, C, H, W); `image_sizes` holds (height, width) of each image inside of its padding.
    """

    def __init__(self, tensors: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensors = tensors
        self.image_sizes = image_sizes

    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        """The same with the images converted as by Tensor.to."""
        return ImageList(self.tensors.to(*args, **kwargs), self.image_sizes)
