"""Images of any size to one batch and boxes back again (torchvision, models/detection/transform.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinynet import Tensor, as_tensor, empty, float32, nn, stack, tensor
from tinynet.detection.image_list import ImageList
from tinynet.detection.targets import check_images
from tinynet.errors import ShapeError
from tinynet.nn import functional as F

__all__ = ["GeneralizedRCNNTransform", "resize_boxes"]

ImageSize = tuple[int, int]  # height, width
Targets = list[dict[str, Tensor]]


class GeneralizedRCNNTransform(nn.Module):
    """Normalises, resizes and pads images (C, H, W) into one batch; `postprocess` takes boxes back.

    An image is scaled by ``min(min_size / shorter side, max_size / longer side)`` to floor(H·scale) x
    floor(W·scale), bilinearly and without antialiasing; then zeros are added below and to the right up to the
    largest height and width of the batch, rounded up to multiples of `size_divisible`. Boxes move with their
    image: each axis by its own new size / old size.

    Args:
        min_size: of the shorter side, in pixels; of several, training draws one and evaluation takes the last.
        max_size: of the longer side.
        image_mean, image_std: for each channel; ``(image - mean) / std``.
        size_divisible: what the batch's height and width are multiples of.
        fixed_size: (width, height) of every image instead of `min_size` and `max_size`.
        _skip_resize: leave images as large as they are in training (torchvision's name).
    """

    def __init__(
        self,
        min_size: int | Sequence[int],
        max_size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        size_divisible: int = 32,
        fixed_size: ImageSize | None = None,
        *,
        _skip_resize: bool = False,
    ) -> None:
        super().__init__()
        self.min_size = tuple(min_size) if isinstance(min_size, (list, tuple)) else (min_size,)
        self.max_size = max_size
        self.image_mean = image_mean
        self.image_std = image_std
        self.size_divisible = size_divisible
        self.fixed_size = fixed_size
        self._skip_resize = _skip_resize
        if not self.min_size or min(*self.min_size, max_size, size_divisible) < 1:
            raise ValueError(
                f"min_size, max_size and size_divisible must be positive, got {min_size}, {max_size}, {size_divisible}"
            )

    def forward(self, images: Sequence[Tensor], targets: Targets | None = None) -> tuple[ImageList, Targets | None]:
        """The batch with the images' sizes before padding, and targets whose boxes moved with their images.

        What else a target holds stays as it is; the caller's dicts are not changed.
        """
        images = list(images)
        check_images(images, len(self.image_mean))
        resized = [self.resize(self.normalize(image)) for image in images]
        image_sizes = [_size(image) for image in resized]
        if targets is not None:
            targets = [
                {**target, "boxes": resize_boxes(target["boxes"], _size(image), new_size)}
                for target, image, new_size in zip(targets, images, image_sizes)
            ]
        return ImageList(self.batch_images(resized), image_sizes), targets

    def normalize(self, image: Tensor) -> Tensor:
        """(image - mean) / std, channel by channel."""
        mean = as_tensor(self.image_mean, dtype=image.dtype)
        std = as_tensor(self.image_std, dtype=image.dtype)
        return (image - mean[:, None, None]) / std[:, None, None]

    def resize(self, image: Tensor) -> Tensor:
        """(C, H, W) at the size that the rule of this class gives. Raises ShapeError if no pixel would remain."""
        if self.training and self._skip_resize:
            return image
        if self.fixed_size is not None:
            size = (self.fixed_size[1], self.fixed_size[0])
            return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        shorter, longer = sorted(_size(image))
        scale = min(self._drawn_min_size() / shorter, self.max_size / longer)
        if math.floor(shorter * scale) < 1:
            raise ShapeError(
                f"images: an image of {image.shape[-2]} x {image.shape[-1]} pixels is too narrow: scaled by {scale:g}, "
                f"so that its longer side is at most max_size={self.max_size}, nothing of the shorter one remains"
            )
        return F.interpolate(
            image[None], scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=True
        )[0]

    def _drawn_min_size(self) -> int:
        if not self.training:
            return self.min_size[-1]
        return self.min_size[int(empty(1).uniform_(0.0, float(len(self.min_size))).item())]

    def batch_images(self, images: Sequence[Tensor]) -> Tensor:
        """(N, C, H, W): each image in the upper left corner, zeros around it."""
        height, width = [
            math.ceil(max(image.shape[axis] for image in images) / self.size_divisible) * self.size_divisible
            for axis in (1, 2)
        ]
        return stack([F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images])

    def postprocess(
        self, result: Targets, image_shapes: Sequence[ImageSize], original_image_sizes: Sequence[ImageSize]
    ) -> Targets:
        """Detections with their boxes in the pixels of the images that the user gave; in training unchanged."""
        if self.training:
            return result
        return [
            {**found, "boxes": resize_boxes(found["boxes"], shape, original)}
            for found, shape, original in zip(result, image_shapes, original_image_sizes)
        ]

    def extra_repr(self) -> str:
        return (
            f"mean={list(self.image_mean)}, std={list(self.image_std)}, "
            f"min_size={self.min_size}, max_size={self.max_size}"
        )


def resize_boxes(boxes: Tensor, original_size: Sequence[int], new_size: Sequence[int]) -> Tensor:
    """(M, 4) boxes x1, y1, x2, y2 of an image that went from one (height, width) to another.

    The two ratios are float32, also for boxes in float64, as torchvision's are.
    """
    height, width = [
        tensor(float(new), dtype=float32) / tensor(float(old), dtype=float32)
        for new, old in zip(new_size, original_size)
    ]
    x1, y1, x2, y2 = boxes.unbind(1)
    return stack([x1 * width, y1 * height, x2 * width, y2 * height], dim=1)


def _size(image: Tensor) -> ImageSize:
    return image.shape[-2], image.shape[-1]
