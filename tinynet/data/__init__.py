"""Data sets of images and the random transforms that augment their batches."""

from __future__ import annotations

from tinynet.data.digits import Digits
from tinynet.data.fashion_mnist import FashionMNIST
from tinynet.data.idx import read_idx
from tinynet.data.imagenet import imagenet_classes
from tinynet.data.images import ImageDataset
from tinynet.data.transforms import Compose, RandomAffine, RandomHorizontalFlip, RandomShift

__all__ = [
    "Compose",
    "Digits",
    "FashionMNIST",
    "ImageDataset",
    "RandomAffine",
    "RandomHorizontalFlip",
    "RandomShift",
    "imagenet_classes",
    "read_idx",
]
