"""ImageNet's classes, and photos made ready for a net that was trained on it."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tinynet import Tensor, from_numpy
from tinynet.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
LONGEST_SIDE = 20_000  # pixels


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of the 1000 classes, in the order of the logits. Two names occur twice (crane, maillot)."""
    text = files("tinynet.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:1000])


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """The RGB image in a file, upright as its camera says. Raises DataError with the path."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise DataError(f"{path} is no image that can be read") from None
    except OSError as error:
        reason = error.strerror or f"damaged or truncated image ({error})"
        raise DataError(f"{path}: {reason}") from None
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: damaged image or too large ({error})") from None


def resize_short_side(image: Image.Image, size: int) -> Image.Image:
    """The image scaled, with antialiasing, so that its shorter side has `size` pixels (torchvision's Resize).

    Raises DataError for a strip so thin that the result would be huge.
    """
    width, height = image.size
    short = min(width, height)
    scaled = (int(size * width / short), int(size * height / short))
    if max(scaled) > LONGEST_SIDE:
        raise DataError(f"an image of {width}×{height} pixels is too thin: resized it would be {max(scaled):,} long")
    return image if scaled == image.size else image.resize(scaled, Image.Resampling.BILINEAR)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The square of `size` pixels in the middle (torchvision's CenterCrop); the image must be as large."""
    width, height = image.size
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def normalised(image: Image.Image) -> Tensor:
    """(1, 3, H, W) float32: (pixel / 255 - mean) / std per colour, as the published weights expect."""
    pixels = np.asarray(image, np.float32) / np.float32(255)
    standard = (pixels - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(IMAGENET_STD, np.float32)
    return from_numpy(np.ascontiguousarray(standard.transpose(2, 0, 1))[np.newaxis])
