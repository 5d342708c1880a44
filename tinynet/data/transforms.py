"""Random changes of image batches that keep their meaning: augmentation against overfitting.

A transform is called with a batch (N, C, H, W) of floats and returns a new one of the same shape and dtype;
every image gets its own draw. The numbers come from tinynet's generator, so `manual_seed` fixes them and a
resumed training continues them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinynet import Generator, Tensor, from_numpy, rand

Transform = Callable[[Tensor], Tensor]


class Compose:
    """Applies several transforms, the first one first."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, batch: Tensor) -> Tensor:
        for transform in self.transforms:
            batch = transform(batch)
        return batch


class RandomHorizontalFlip:
    """Mirrors each image left to right with probability `p`."""

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        self.p = p
        self.generator = generator

    def __call__(self, batch: Tensor) -> Tensor:
        images = _checked(batch)
        flipped = rand(len(images), generator=self.generator).numpy() < self.p
        result = images.copy()
        result[flipped] = images[flipped, :, :, ::-1]
        return from_numpy(result)


class RandomShift:
    """Moves each image by whole pixels, at most `pixels` each way: padding with `fill`, then a random crop.

    The augmentation of He et al. section 4.2 is ``RandomShift(4)`` and a horizontal flip.
    """

    def __init__(self, pixels: int, fill: float = 0.0, generator: Generator | None = None) -> None:
        self.pixels = pixels
        self.fill = fill
        self.generator = generator

    def __call__(self, batch: Tensor) -> Tensor:
        images = _checked(batch)
        count, _, height, width = images.shape
        pad = self.pixels
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=self.fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        start = np.floor(rand(2, count, generator=self.generator).numpy() * (2 * pad + 1)).astype(np.int64)
        start = np.minimum(start, 2 * pad)  # a float32 just below 1 may round up to 2·pad + 1
        return from_numpy(np.ascontiguousarray(windows[np.arange(count), :, start[0], start[1]]))


class RandomAffine:
    """Turns, scales, slants and moves each image about its centre, with bilinear interpolation.

    Args:
        degrees: rotation, uniform in ±degrees.
        translate: shift in pixels along each axis, uniform in ±translate.
        scale: height and width each grow by a factor uniform in 1 ± scale.
        shear: slant of the vertical axis in degrees, uniform in ±shear.
        fill: the value outside of the image.
    """

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        fill: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        if not 0 <= scale < 1:
            raise ValueError(f"RandomAffine: scale must be in [0, 1), got {scale}")
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.fill = fill
        self.generator = generator

    def __call__(self, batch: Tensor) -> Tensor:
        images = _checked(batch)
        draws = 2 * rand(6, len(images), generator=self.generator).numpy() - 1
        inverse, shift = self._inverse_maps(draws.astype(images.dtype))
        return from_numpy(_sample(images, inverse, shift, self.fill))

    def _inverse_maps(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per image the 2×2 matrix from output to input offsets (y, x) and the shift (y, x) of the output."""
        angle = math.radians(self.degrees) * draws[0]
        slant = np.tan(math.radians(self.shear) * draws[1])
        scale_y, scale_x = 1 + self.scale * draws[2], 1 + self.scale * draws[3]
        cos, sin = np.cos(angle), np.sin(angle)
        from_y = (cos / scale_y, -sin / scale_y)
        from_x = ((sin + slant * cos) / scale_x, (cos - slant * sin) / scale_x)
        inverse = np.array([from_y, from_x]).transpose(2, 0, 1)
        return inverse, self.translate * draws[4:6].T


def _checked(batch: Tensor) -> np.ndarray:
    images = batch.detach().numpy()
    if images.ndim != 4 or images.dtype.kind != "f":
        raise ValueError(f"transforms take batches (N, C, H, W) of floats, got {images.shape} {images.dtype}")
    return images


def _sample(images: np.ndarray, inverse: np.ndarray, shift: np.ndarray, fill: float) -> np.ndarray:
    """The images looked up at inverse · (position - shift), both measured from the centre."""
    count, _, height, width = images.shape
    offsets = np.indices((height, width), images.dtype).reshape(2, -1)
    offsets -= np.array([[(height - 1) / 2], [(width - 1) / 2]], images.dtype)
    source = inverse @ (offsets - shift[:, :, np.newaxis])
    # One ring of `fill` around the image; positions beyond it are moved onto it.
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=fill)
    y = np.clip(source[:, 0] + (height + 1) / 2, 0, height + 1)
    x = np.clip(source[:, 1] + (width + 1) / 2, 0, width + 1)
    top, left = np.minimum(y.astype(np.int64), height), np.minimum(x.astype(np.int64), width)
    down = (y - top).astype(images.dtype)[:, np.newaxis]
    right = (x - left).astype(images.dtype)[:, np.newaxis]

    flat = padded.reshape(count, padded.shape[1], (height + 2) * (width + 2))
    corner = (top * (width + 2) + left)[:, np.newaxis]
    a, b, c, d = (
        np.take_along_axis(flat, corner + step, axis=2) for step in (0, 1, width + 2, width + 3)
    )
    result = (a * (1 - right) + b * right) * (1 - down) + (c * (1 - right) + d * right) * down
    return result.reshape(images.shape)
