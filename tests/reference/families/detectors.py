"""The three detectors on drawn checkpoints: detections, losses, and the gradients of head and pyramid.

The reference is torchvision, made by tests/reference/torchvision_detectors.py. Weights are drawn by their names and
scaled so that scores spread over the thresholds: with torchvision's own initialisation every score is about 0.01.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tests.comparison import to_numpy
from tests.reference.cases import generator

CLASSES = 91
SIZES = ((97, 151), (123, 87))  # of the two images
RESIZED = {"min_size": 80, "max_size": 144}
# by detector, factors of the weights and what is added to the biases of layers with this word in their name
FACTORS = {
    "retinanet_resnet50_fpn": {"inner_blocks": 0.1, "cls_logits": 0.5, "bbox_reg": 0.15},
    "retinanet_resnet50_fpn_v2": {"inner_blocks": 0.1, "cls_logits": 1.2, "bbox_reg": 0.3},
    "fcos_resnet50_fpn": {"inner_blocks": 0.1, "cls_logits": 1.2, "bbox_reg": 0.5, "bbox_ctrness": 0.7},
}
OFFSETS = {
    "retinanet_resnet50_fpn": {"cls_logits": -5.0},
    "retinanet_resnet50_fpn_v2": {"cls_logits": -5.0},
    "fcos_resnet50_fpn": {"cls_logits": -4.5, "bbox_reg": 1.5, "bbox_ctrness": 1.0},
}


def _drawn(detector: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = generator("detectors", name)
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if len(shape) > 1:  # He et al. 2015
        factor = math.prod(value for part, value in FACTORS[detector].items() if part in name.split("."))
        return rng.standard_normal(shape, np.float32) * np.float32(factor * math.sqrt(2 / math.prod(shape[1:])))
    if kind == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if kind == "weight":  # small where a block ends: sixteen blocks add up
        low, high = (0.1, 0.4) if ".bn3." in name else (0.5, 1.5)
        return rng.uniform(low, high, shape).astype(np.float32)
    offset = sum(value for part, value in OFFSETS[detector].items() if part in name.split("."))
    return rng.standard_normal(shape, np.float32) * np.float32(0.2) + np.float32(offset)


@dataclass(frozen=True)
class DetectorCase:
    """A detector by name.

    `norms`: "frozen" builds it on `FrozenBatchNorm2d`, as with pretrained weights; else it has ordinary batch norms,
    which train on "batch" statistics or on their "running" ones.
    """

    detector: str
    norms: str = "frozen"

    @property
    def name(self) -> str:
        return self.detector if self.norms == "frozen" else f"{self.detector} {self.norms}"

    def build(self, library: Any, num_classes: int = CLASSES, **options: Any) -> Any:
        """The model from a namespace with torchvision's names, its weights still to be drawn."""
        options = {**RESIZED, **options}
        if self.norms != "frozen":
            options |= {"num_classes": num_classes, "weights": None, "weights_backbone": None}
            return getattr(library, self.detector)(**options)
        backbone = library.resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, trainable_layers=3, returned_layers=[2, 3, 4],
            extra_blocks=library.LastLevelP6P7(256, 256), norm_layer=library.FrozenBatchNorm2d,
        )  # fmt: skip
        return (library.FCOS if "fcos" in self.detector else library.RetinaNet)(backbone, num_classes, **options)

    def fill(self, lib: ModuleType, model: Any) -> Any:
        """Draws all parameters and statistics of `model`, a module of `lib` (torch or tinynet)."""
        state = {name: _drawn(self.detector, name, tuple(value.shape)) for name, value in model.state_dict().items()}
        model.load_state_dict({name: lib.from_numpy(array) for name, array in state.items()})
        return model

    def detections(self, lib: ModuleType, model: Any) -> dict[str, np.ndarray]:
        """What it finds in the two images, in evaluation mode and float32, by "<field> of image <number>"."""
        with lib.no_grad():
            found = model.eval()(images(lib, "float32"))
        return {
            f"{field} of image {number}": to_numpy(result[field])
            for number, result in enumerate(found)
            for field in ("boxes", "scores", "labels")
        }

    def training(self, lib: ModuleType, model: Any, dtype: str) -> dict[str, np.ndarray]:
        """The losses and, of head and pyramid, every gradient of their sum."""
        model.train().zero_grad()
        if self.norms == "running":
            model.backbone.body.eval()
        losses = model(images(lib, dtype), targets(lib, dtype))
        results = {f"loss {name}": to_numpy(loss).reshape(1) for name, loss in losses.items()}
        sum(losses.values()).backward()
        for name, parameter in model.named_parameters():
            if name.startswith(("head.", "backbone.fpn.")):
                results[f"gradient of {name}"] = to_numpy(parameter.grad)
        return results


def images(lib: ModuleType, dtype: str) -> list[Any]:
    """Two images of different odd sizes, bright and dark blocks with noise."""
    made = []
    for number, (height, width) in enumerate(SIZES):
        rng = generator("detector image", number)
        blocks = rng.uniform(0, 1, (3, height // 16 + 1, width // 16 + 1)).repeat(16, 1).repeat(16, 2)
        image = 0.7 * blocks[:, :height, :width] + 0.3 * rng.uniform(0, 1, (3, height, width))
        made.append(lib.from_numpy(image.astype(dtype)))
    return made


def targets(lib: ModuleType, dtype: str) -> list[dict[str, Any]]:
    """Six and three boxes, from a tenth of the image to nearly all of it."""
    made = []
    for number, ((height, width), count) in enumerate(zip(SIZES, (6, 3))):
        rng = generator("detector boxes", number)
        extent = rng.uniform(0.1, 0.9, (count, 2)) * (width, height)
        corner = rng.uniform(0, 1, (count, 2)) * ((width, height) - extent)
        boxes = np.concatenate([corner, corner + extent], axis=1)
        labels = rng.integers(1, CLASSES, count)
        made.append({"boxes": lib.from_numpy(boxes.astype(dtype)), "labels": lib.from_numpy(labels)})
    return made


CASES = [
    DetectorCase("retinanet_resnet50_fpn"),
    DetectorCase("retinanet_resnet50_fpn_v2", norms="running"),
    DetectorCase("fcos_resnet50_fpn"),
]
# On batch statistics torch's own float32 gradients of a ResNet-50 are per cents from its float64 ones.
IN_FLOAT64_ONLY = [DetectorCase("retinanet_resnet50_fpn_v2", norms="batch")]
