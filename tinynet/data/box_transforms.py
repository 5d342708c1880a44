"""Random changes of an image that move its boxes along, and letterboxing.

A transform takes an image (C, H, W) of floats and its target (see `tinynet.data.detection`) as NumPy arrays and
returns new ones; what it was given stays as it is. The random numbers come from `generator`, or from tinynet's own,
so that `manual_seed` fixes them and a resumed training continues them. Data-loader workers seed tinynet's own anew;
a generator given here would be copied into all of them, each drawing the same.

Cropping drops the boxes whose centre leaves the image, clips the others, and drops what is then smaller than
`smallest` pixels in width or height.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinynet import Generator, rand
from tinynet.data.detection import BoxTransform, Target

Interval = tuple[float, float]
SMALLEST_BOX = 4.0  # pixels


class Compose:
    """Applies several transforms, the first one first."""

    def __init__(self, transforms: Sequence[BoxTransform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        for transform in self.transforms:
            image, target = transform(image, target)
        return image, target


class _RandomFlip:
    """Mirrors the image along one axis, and the boxes with it, with probability `p`."""

    axis: int  # of the image (C, H, W)
    sides: tuple[int, int]  # of a box that change places

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        self.p = p
        self.generator = generator

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        _check(image)
        if _draws(1, self.generator)[0] >= self.p:
            return image, target
        boxes = target["boxes"].copy()
        boxes[:, self.sides[::-1]] = image.shape[self.axis] - boxes[:, self.sides]
        return np.flip(image, self.axis), {**target, "boxes": boxes}


class RandomHorizontalFlip(_RandomFlip):
    """Mirrors the image left to right with probability `p`."""

    axis, sides = 2, (0, 2)


class RandomVerticalFlip(_RandomFlip):
    """Turns the image upside down, by mirroring, with probability `p`."""

    axis, sides = 1, (1, 3)


class RandomCrop:
    """Cuts a window of `size` (height, width) out at a random place; a side that is shorter stays whole."""

    def __init__(
        self, size: tuple[int, int], smallest: float = SMALLEST_BOX, generator: Generator | None = None
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"RandomCrop: size (height, width) must be positive, got {size}")
        self.size = size
        self.smallest = smallest
        self.generator = generator

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        _check(image)
        height, width = (min(wanted, given) for wanted, given in zip(self.size, image.shape[1:]))
        top, left = _places((image.shape[1] - height, image.shape[2] - width), self.generator)
        cut = image[:, top : top + height, left : left + width]
        return cut, _moved(target, (1.0, 1.0), (-left, -top), (height, width), self.smallest)


class RandomScale:
    """Shows the image larger or smaller in a frame of the same size, by a random crop or a random place in padding.

    Args:
        scale: the factor is drawn from this interval, evenly in its logarithm.
        fill: value of the padding, one number or one for each channel.
    """

    def __init__(
        self,
        scale: Interval = (0.75, 1.3),
        fill: float | Sequence[float] = 0.0,
        smallest: float = SMALLEST_BOX,
        generator: Generator | None = None,
    ) -> None:
        self.scale = _checked_interval("RandomScale: scale", scale)
        self.fill = fill
        self.smallest = smallest
        self.generator = generator

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        _check(image)
        height, width = image.shape[1:]
        factor = _between(self.scale, _draws(1, self.generator)[0])
        size = max(1, round(height * factor)), max(1, round(width * factor))
        scale_y, scale_x = size[0] / height, size[1] / width
        top, left = _places((abs(size[0] - height), abs(size[1] - width)), self.generator)
        if size[0] < height or size[1] < width:
            result = _padded(_resized(image, size), (height, width), (top, left), self.fill)
            shift = (left, top)
        else:
            window = (left / scale_x, top / scale_y, (left + width) / scale_x, (top + height) / scale_y)
            result = _resized(image, (height, width), window)
            shift = (-left, -top)
        return result, _moved(target, (scale_x, scale_y), shift, (height, width), self.smallest)


class RandomColour:
    """Changes contrast (about the image's mean), brightness and the gain of each channel; values stay in [0, 1].

    Each is a factor, drawn from its interval evenly in its logarithm. Boxes stay where they are.
    """

    def __init__(
        self,
        contrast: Interval = (0.8, 1.25),
        brightness: Interval = (0.9, 1.1),
        gain: Interval = (0.96, 1.04),
        generator: Generator | None = None,
    ) -> None:
        self.contrast = _checked_interval("RandomColour: contrast", contrast)
        self.brightness = _checked_interval("RandomColour: brightness", brightness)
        self.gain = _checked_interval("RandomColour: gain", gain)
        self.generator = generator

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        _check(image)
        draws = _draws(2 + len(image), self.generator)
        contrast, brightness = _between(self.contrast, draws[0]), _between(self.brightness, draws[1])
        factors = brightness * np.array([_between(self.gain, draw) for draw in draws[2:]])
        slope = (contrast * factors).astype(image.dtype)
        offset = ((1 - contrast) * float(image.mean()) * factors).astype(image.dtype)
        changed = image * slope[:, np.newaxis, np.newaxis] + offset[:, np.newaxis, np.newaxis]
        return changed.clip(0, 1), target


class DropCrowds:
    """Leaves out the boxes that stand for crowds, which no detector is trained on."""

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        return image, _selected(target, target["iscrowd"] == 0)


class BoxMapping(NamedTuple):
    """How letterboxing moved an image's points: multiplied by a factor for each axis."""

    scale_x: float
    scale_y: float
    width: int  # of the image before
    height: int

    def forward(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) of the image, in the letterbox."""
        return boxes * np.array([self.scale_x, self.scale_y] * 2, boxes.dtype)

    def inverse(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) of the letterbox, in the image and clipped to it."""
        back = boxes / np.array([self.scale_x, self.scale_y] * 2, boxes.dtype)
        return back.clip(0, np.array([self.width, self.height] * 2, boxes.dtype))


class Letterbox:
    """Fits the image into `size` (height, width) with its aspect kept, and pads it at the bottom and at the right.

    `mapping` tells how an image of some size is moved, and takes detections back.

    Args:
        fill: value of the padding, one number or one for each channel.
        enlarge: whether images smaller than `size` grow.
    """

    def __init__(
        self, size: tuple[int, int], fill: float | Sequence[float] = 0.0, enlarge: bool = True
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"Letterbox: size (height, width) must be positive, got {size}")
        self.size = size
        self.fill = fill
        self.enlarge = enlarge

    def __call__(self, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        _check(image)
        inner = self._inner_size(*image.shape[1:])
        mapping = self.mapping(*image.shape[1:])
        result = _padded(_resized(image, inner), self.size, (0, 0), self.fill)
        return result, _moved(target, (mapping.scale_x, mapping.scale_y), (0, 0), self.size, 0.0)

    def mapping(self, height: int, width: int) -> BoxMapping:
        """What happens to the points of an image of this size."""
        inner = self._inner_size(height, width)
        return BoxMapping(inner[1] / width, inner[0] / height, width, height)

    def _inner_size(self, height: int, width: int) -> tuple[int, int]:
        factor = min(self.size[0] / height, self.size[1] / width)
        if not self.enlarge:
            factor = min(factor, 1.0)
        return max(1, round(height * factor)), max(1, round(width * factor))


def _check(image: np.ndarray) -> None:
    if image.ndim != 3 or image.dtype.kind != "f" or image.size == 0:
        raise ValueError(f"box transforms take images (C, H, W) of floats, got {image.shape} {image.dtype}")


def _checked_interval(name: str, interval: Interval) -> Interval:
    low, high = interval
    if not 0 < low <= high < math.inf:
        raise ValueError(f"{name} must be an interval of positive factors, got {interval}")
    return low, high


def _draws(count: int, generator: Generator | None) -> list[float]:
    """Numbers in [0, 1)."""
    return rand(count, generator=generator).tolist()


def _between(interval: Interval, draw: float) -> float:
    low, high = interval
    return low * (high / low) ** draw


def _places(room: tuple[int, int], generator: Generator | None) -> tuple[int, int]:
    """Whole numbers (y, x) from 0 to `room`, both ends included."""
    y, x = (min(int(draw * (most + 1)), most) for draw, most in zip(_draws(2, generator), room))
    return y, x


def _resized(
    image: np.ndarray, size: tuple[int, int], window: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """The image, or its `window` (x0, y0, x1, y1), at another size: bilinear, antialiased where it shrinks."""
    if window is None and size == image.shape[1:]:
        return image.copy()
    height, width = size
    if window is not None:  # rounding may reach over the border by a hair, which Pillow refuses
        window = (window[0], window[1], min(window[2], image.shape[2]), min(window[3], image.shape[1]))
    result = np.empty((len(image), height, width), image.dtype)
    for channel, plane in enumerate(image):
        picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        result[channel] = picture.resize((width, height), Image.Resampling.BILINEAR, window)
    return result


def _padded(
    image: np.ndarray, size: tuple[int, int], place: tuple[int, int], fill: float | Sequence[float]
) -> np.ndarray:
    """The image at `place` (top, left) of a frame filled with `fill`."""
    values = np.broadcast_to(np.asarray(fill, image.dtype), len(image))
    result = np.empty((len(image), *size), image.dtype)
    result[:] = values[:, np.newaxis, np.newaxis]
    top, left = place
    result[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return result


def _moved(
    target: Target, scale: tuple[float, float], shift: tuple[float, float], size: tuple[int, int], smallest: float
) -> Target:
    """The target with its boxes scaled, shifted (x, y) and clipped to `size`, without those that are lost."""
    height, width = size
    boxes = target["boxes"] * np.array(scale * 2, np.float32) + np.array(shift * 2, np.float32)
    centre_x, centre_y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    inside = (centre_x >= 0) & (centre_x <= width) & (centre_y >= 0) & (centre_y <= height)
    clipped = boxes.clip(0, np.array([width, height] * 2, np.float32))
    sides = clipped[:, 2:] - clipped[:, :2]
    # An area may be that of an outline: it shrinks as its box does.
    before = np.maximum((target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(axis=1), np.float32(1e-12))
    area = (target["area"] * sides.prod(axis=1) / before).astype(np.float32)
    moved = {**target, "boxes": clipped.astype(np.float32), "area": area}
    return _selected(moved, inside & (sides > 0).all(axis=1) & (sides >= smallest).all(axis=1))


def _selected(target: Target, kept: np.ndarray) -> Target:
    return {key: value[kept] if isinstance(value, np.ndarray) else value for key, value in target.items()}
