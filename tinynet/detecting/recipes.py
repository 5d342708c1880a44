"""What a small detector is trained on and how: a recipe for each kind of data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinynet import data
from tinynet.data import box_transforms
from tinynet.data.detection import BoxTransform, DetectionDataset
from tinynet.errors import DataError

RUNNING_IMAGES = 100  # held-out images that the AP beside the progress bar is of
BLOOD_MEAN, BLOOD_STD = (0.74, 0.70, 0.71), (0.10, 0.12, 0.10)


@dataclass(frozen=True)
class Recipe:
    """Net and training for one kind of data; all of them use AdamW, a warm-up and a cosine.

    Attributes:
        layers: blocks of the backbone's four stages.
        levels: of the pyramid, 2 (stride 4) to 5 (stride 32).
        channels: of neck and head.
        scale: a level of stride s answers for objects of sizes up to scale·s.
        longest: images whose longer side has more pixels are made smaller.
        augment: flips, scales and colours change at random.
    """

    layers: tuple[int, ...] = (1, 2, 2, 1)
    levels: tuple[int, ...] = (3, 4, 5)
    channels: int = 48
    scale: float = 4.0
    epochs: int = 60
    longest: int | None = 320
    augment: bool = True


SCENES = Recipe((1, 1, 1, 1), (2, 3, 4, 5), 32, 2.5, epochs=4, longest=None, augment=False)
SCENE_CLASSES = {"scenes": 1, "scenes-10": 10, "scenes-context": 2}
RECIPES = {**dict.fromkeys(SCENE_CLASSES, SCENES), "blood-cells": Recipe()}
BATCH_SIZE = 8
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05  # of weights, not of norms and biases
CLIP_NORM = 10.0
WARM_UP = 100  # steps


class Splits(NamedTuple):
    """`running` is looked at while training, `test` once at the end; where data have no test part they agree."""

    train: DetectionDataset
    running: DetectionDataset
    test: DetectionDataset


def recipe_for(name: str) -> Recipe:
    """The recipe of the data called `name`, or of a user's own in the folder `name`."""
    return RECIPES.get(name, Recipe())


def open_splits(name: str, limit: int | None = None, skip_bad: bool = False) -> Splits:
    """The data "scenes" (one class), "scenes-10" (ten), "scenes-context" (two that a digit's surroundings decide),
    "blood-cells", or those of a folder or COCO file.

    `limit` keeps that many images of each part, for a quick try. `skip_bad` goes on without bad images and boxes of
    a folder.

    Raises:
        DataError: nothing there, or bad annotations, all of them listed with their files.
    """
    recipe = recipe_for(name)
    if classes := SCENE_CLASSES.get(name):
        train = data.HandwritingScenes(True, count=limit, classes=classes)
        test = data.HandwritingScenes(False, count=limit, classes=classes)
        few = len(test) > RUNNING_IMAGES  # a scene is the same however many are drawn
        running = data.HandwritingScenes(False, count=RUNNING_IMAGES, classes=classes) if few else test
        return Splits(train, running, test)
    if name == "blood-cells":
        parts: dict[str, data.AnnotatedFolder] = {
            split: data.BloodCells(split, longest=recipe.longest) for split in ("train", "val", "test")
        }
    elif not os.path.exists(name):
        raise DataError(f"--data {name!r} is neither one of {', '.join(RECIPES)} nor a folder or file")
    else:
        parts = data.open_detection_data(name, skip_bad=skip_bad, longest=recipe.longest)
    if limit is not None:
        parts = {split: part.subset(range(min(limit, len(part)))) for split, part in parts.items()}
    test_part = parts.get("test", parts["val"])
    return Splits(parts["train"], parts["val"].subset(range(min(RUNNING_IMAGES, len(parts["val"])))), test_part)


def standardisation(name: str, train: DetectionDataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel that the detector works with."""
    return (BLOOD_MEAN, BLOOD_STD) if name == "blood-cells" else (train.mean, train.std)


def augmentation(recipe: Recipe, mean: tuple[float, ...]) -> BoxTransform | None:
    """The random changes of training images, boxes moving along."""
    if not recipe.augment:
        return None
    changes: list[Any] = [
        box_transforms.DropCrowds(),
        box_transforms.RandomScale((0.75, 1.3), fill=mean),
        box_transforms.RandomHorizontalFlip(),
        box_transforms.RandomVerticalFlip(),
        box_transforms.RandomColour(),
    ]
    return box_transforms.Compose(changes)
