"""The small detectors once more, as torch functions of a state_dict, with the loss written from its definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as tf

from tests.detection.test_assignment import points_by_definition

STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}


class Twin:
    """A detector in training mode; `parameters` are leaves with gradients, under tinynet's names."""

    def __init__(self, state: dict[str, np.ndarray], mean: Sequence[float], std: Sequence[float]) -> None:
        tensors = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
        self.parameters = {name: value.requires_grad_() for name, value in tensors.items() if is_parameter(name)}
        self.buffers = {name: value for name, value in tensors.items() if not is_parameter(name)}
        self.mean, self.std = mean, std
        self.copy = 0  # of an image pyramid: which one the body sees

    def convolve(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = self.parameters[f"{name}.weight"]
        bias = self.parameters.get(f"{name}.bias")
        return tf.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if f"{name}.norms.{self.copy}.weight" in self.parameters:
            name = f"{name}.norms.{self.copy}"
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        mean, variance = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        return tf.batch_norm(x, mean, variance, weight, bias, training=True)

    def block(self, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        out = tf.relu(self.norm(f"{name}.bn1", self.convolve(f"{name}.conv1", x)))
        out = tf.relu(self.norm(f"{name}.bn2", self.convolve(f"{name}.conv2", out, stride)))
        out = self.norm(f"{name}.bn3", self.convolve(f"{name}.conv3", out))
        if f"{name}.downsample.0.weight" in self.parameters:
            x = self.norm(f"{name}.downsample.1", self.convolve(f"{name}.downsample.0", x, stride))
        return tf.relu(out + x)

    def maps(self, x: torch.Tensor, copy: int = 0) -> dict[str, torch.Tensor]:
        body = "pyramid.body"
        self.copy = copy
        x = tf.relu(self.norm(f"{body}.bn1", self.convolve(f"{body}.conv1", x, 2)))
        x = tf.max_pool2d(x, 3, 2, 1)
        maps = {}
        for stage in range(1, 5):
            number = 0
            while f"{body}.layer{stage}.{number}.conv1.weight" in self.parameters:
                x = self.block(f"{body}.layer{stage}.{number}", x, 2 if stage > 1 and number == 0 else 1)
                number += 1
            if number:
                maps[f"C{stage + 1}"] = x
        return maps

    def step(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A convolution of the neck, its norm if it has one, or nothing at all."""
        if f"{name}.0.weight" not in self.parameters:
            return x
        x = self.convolve(f"{name}.0", x)
        return self.norm(f"{name}.1", x) if f"{name}.1.weight" in self.parameters else x

    def project(self, x: torch.Tensor, level: int, convolution: int = 0) -> torch.Tensor:
        return self.norm(f"projection.norms.{level}", self.convolve(f"projection.convolutions.{convolution}", x))

    def levels(self, design: str, x: torch.Tensor, levels: Sequence[int]) -> list[tuple[float, torch.Tensor]]:
        """Strides and features, finest first, as the head gets them."""
        if design == "image-pyramid":
            copies = [x]
            for _ in range(4 - levels[0]):
                copies.insert(0, tf.interpolate(copies[0], scale_factor=2, mode="bilinear"))
            return [(16 * x.shape[-1] / copy.shape[-1], self.project(self.maps(copy, number)["C4"], number))
                    for number, copy in enumerate(copies)]  # fmt: skip
        maps = self.maps(x)
        if design in ("c4", "c5"):
            return [(STRIDES[design.upper()], self.project(maps[design.upper()], 0))]
        names = [f"C{level}" for level in levels]
        if design.startswith("hierarchy"):
            return [(STRIDES[n], self.project(maps[n], i, i)) for i, n in enumerate(names)]
        merged: list[torch.Tensor] = []
        for index in reversed(range(len(names))):
            features = maps[names[index]]
            lateral = self.step(f"pyramid.fpn.inner_blocks.{index}", features)
            if merged and design != "fpn-no-top-down":
                above = tf.interpolate(merged[0], size=features.shape[-2:], mode="nearest")
                above = above * (0.5 if design == "fpn-scaled-top-down" else 1)
                lateral = above if design == "fpn-no-lateral" else lateral + above
            merged.insert(0, lateral)
        kept = 1 if design == "fpn-p2" else len(names)
        return [(STRIDES[names[i]], self.step(f"pyramid.fpn.layer_blocks.{i}", merged[i])) for i in range(kept)]

    def head(self, x: torch.Tensor, level: int, own: bool) -> torch.Tensor:
        weights = level if own else 0
        for number in range(2):
            x = self.convolve(f"head.convolutions.{weights}.{number}", x)
            x = tf.relu(self.norm(f"head.norms.{level}.{number}", x))
        return self.convolve(f"head.predictors.{weights}", x)

    def outputs(self, design: str, images: np.ndarray, levels: Sequence[int], only: int | None = None) -> list[Any]:
        """(stride, values (N, K + 4, h, w)) of each level, or of one alone."""
        mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (self.mean, self.std))
        x = (torch.from_numpy(images) - mean) / std
        if only is None:
            made = list(enumerate(self.levels(design, x, levels)))
        else:  # batch norm sees no other copy
            copy = 4 - levels[0] - only
            enlarged = x
            for _ in range(copy):
                enlarged = tf.interpolate(enlarged, scale_factor=2, mode="bilinear")
            made = [(only, (16 / 2**copy, self.project(self.maps(enlarged, only)["C4"], only)))]
        return [(stride, self.head(features, number, design == "hierarchy")) for number, (stride, features) in made]


def is_parameter(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


def losses(outputs: list[Any], targets: list[dict[str, np.ndarray]], scale: float, strides: Sequence[float],
           only: int | None = None) -> dict[str, torch.Tensor]:
    """Focal loss and twice the GIoU loss over the positive cells of the batch, cell by cell."""
    size = outputs[0][1].shape[-2] * outputs[0][0]
    grids = [(round(size / stride),) * 2 for stride in strides]
    classification, box, positives = torch.zeros(()).double(), torch.zeros(()).double(), 0
    for image, target in enumerate(targets):
        matched = points_by_definition(target["boxes"], grids, strides, 1.5, scale)
        first = 0
        for level, (rows, columns) in enumerate(grids):
            cells = matched[first : first + rows * columns]
            first += rows * columns
            if only is not None and level != only:
                continue
            stride, values = outputs[0 if only is not None else level]
            for cell, index in enumerate(cells):
                row, column = divmod(cell, columns)
                predicted = values[image, :, row, column]
                wanted = torch.zeros(len(predicted) - 4).double()
                if index >= 0:
                    wanted[target["labels"][index]] = 1
                    positives += 1
                    truth = torch.from_numpy(target["boxes"][index].astype(np.float64))
                    box = box + 1 - giou(decoded(predicted[-4:], row, column, stride, scale), truth)
                classification = classification + focal(predicted[:-4], wanted)
    return {"classification": classification / max(1, positives), "box": 2 * box / max(1, positives)}


def decoded(offsets: torch.Tensor, row: int, column: int, stride: float, scale: float) -> torch.Tensor:
    x, y = stride * (column + 0.5 + offsets[0]), stride * (row + 0.5 + offsets[1])
    width, height = stride * torch.exp(offsets[2:] + math.log(0.75 * scale))
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def focal(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(logits)
    right = -0.25 * (1 - p) ** 2 * torch.log(p)
    wrong = -0.75 * p**2 * torch.log(1 - p)
    return (wanted * right + (1 - wanted) * wrong).sum()


def giou(a: torch.Tensor, b: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    width = torch.min(a[2], b[2]) - torch.max(a[0], b[0])
    height = torch.min(a[3], b[3]) - torch.max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else torch.zeros(()).double()
    joint = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (torch.max(a[2], b[2]) - torch.min(a[0], b[0])) * (torch.max(a[3], b[3]) - torch.min(a[1], b[1]))
    return shared / (joint + eps) - (hull - joint) / (hull + eps)
