"""What tests of detectors share: tinynet's builders under torchvision's names, comparison, and a small detector."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np

import tinynet
from tests.reference.store import FOLDER
from tinynet import models, nn
from tinynet.detection import fcos, retinanet

LIBRARY = SimpleNamespace(
    **{name: getattr(module, name) for module in (retinanet, fcos) for name in module.__all__},
    resnet_fpn_backbone=models.resnet_fpn_backbone,
    FrozenBatchNorm2d=models.FrozenBatchNorm2d,
    LastLevelP6P7=models.LastLevelP6P7,
)
BOX, SCORE, LOSS, GRADIENT = 0.05, 1e-3, 1e-4, 1e-3  # pixels, absolute, relative, relative to the largest


@functools.cache
def stored() -> dict[str, np.ndarray]:
    """torchvision's results, made by tests/reference/torchvision_detectors.py."""
    with np.load(FOLDER / "detectors.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def unmatched(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], number: int) -> list[str]:
    """Every detection of image `number` that has no counterpart: same label, score and box within SCORE and BOX.

    Both must have as many and be sorted by score; two whose scores are equal to rounding may change places.
    """
    boxes, scores, labels = (actual[f"{field} of image {number}"] for field in ("boxes", "scores", "labels"))
    if len(scores) != len(expected[f"scores of image {number}"]) or (np.diff(scores) > 0).any():
        return [f"{len(scores)} detections, expected {len(expected[f'scores of image {number}'])} in descending order"]
    free = np.ones(len(scores), bool)
    problems = []
    for box, score, label in zip(*(expected[f"{field} of image {number}"] for field in ("boxes", "scores", "labels"))):
        near = free & (labels == label) & (np.abs(scores - score) <= SCORE) & (np.abs(boxes - box).max(1) <= BOX)
        if near.any():
            free[np.abs(np.where(near, scores, np.inf) - score).argmin()] = False
        else:
            problems.append(f"nothing like label {label}, score {score}, box {box}")
    return problems


class TinyBackbone(nn.Module):
    """Five maps of strides 8 to 128 with 64 channels, from two convolutions: for tests that need no ResNet."""

    out_channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 8, stride=8)
        self.down = nn.Conv2d(64, 64, 3, stride=2, padding=1)

    def forward(self, x: tinynet.Tensor) -> dict[str, tinynet.Tensor]:
        maps = [self.stem(x)]
        for _ in range(4):
            maps.append(self.down(maps[-1]))
        return {str(level): each for level, each in enumerate(maps)}


def small_detector(kind: str, **options: Any) -> Any:
    """A RetinaNet or FCOS of three classes on `TinyBackbone`, images at 64 to 96 pixels."""
    made = getattr(LIBRARY, kind)
    return made(TinyBackbone(), 3, **{"min_size": 64, "max_size": 96, **options})


def target(boxes: list[list[float]], labels: list[int] | None = None) -> dict[str, tinynet.Tensor]:
    """float32 boxes, all of class 1 by default."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    numbers = np.array(labels if labels is not None else [1] * len(array), np.int64)
    return {"boxes": tinynet.from_numpy(array), "labels": tinynet.from_numpy(numbers)}
