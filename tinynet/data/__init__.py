"""Data sets of images, with classes or with boxes, and the random transforms that augment them."""

from __future__ import annotations

from tinynet.data import box_transforms
from tinynet.data.annotations import AnnotatedFolder
from tinynet.data.blood_cells import BloodCells
from tinynet.data.coco import CocoFolder
from tinynet.data.detection import DetectionDataset, collate_detection
from tinynet.data.digits import Digits
from tinynet.data.fashion_mnist import FashionMNIST
from tinynet.data.idx import read_idx
from tinynet.data.imagenet import imagenet_classes
from tinynet.data.images import ImageDataset
from tinynet.data.opening import detect_format, open_detection_data
from tinynet.data.scenes import HandwritingScenes
from tinynet.data.transforms import Compose, RandomAffine, RandomHorizontalFlip, RandomShift
from tinynet.data.voc import VocFolder

__all__ = [
    "AnnotatedFolder",
    "BloodCells",
    "CocoFolder",
    "Compose",
    "DetectionDataset",
    "Digits",
    "FashionMNIST",
    "HandwritingScenes",
    "ImageDataset",
    "RandomAffine",
    "RandomHorizontalFlip",
    "RandomShift",
    "VocFolder",
    "box_transforms",
    "collate_detection",
    "detect_format",
    "imagenet_classes",
    "open_detection_data",
    "read_idx",
]
