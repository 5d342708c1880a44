"""What is measured and by whom: works and sides, and the numbers that go in, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.inspect import parity
from tinynet.inspect.compare import generator
from tinynet.inspect.describe import by

ADDITIONS = "additions"  # many additions of small tensors: what the tape itself costs
COUNT, ELEMENTS = 1000, 16
INFERENCE, TRAINING = "inference", "training"

TINYNET, TORCH, ONNXRUNTIME = "tinynet", "torch", "onnxruntime"
FUSED, EAGER = "fused", "eager"
NCHW, CHANNELS_LAST = "NCHW", "channels_last"


@dataclass(frozen=True)
class Work:
    """One thing to do again and again: a model's forward pass, or a whole training step.

    Attributes:
        model: a name that `tinynet summary` takes, or "additions".
        task: "inference" or "training" (loss, backward, a step of SGD with momentum).
        blocks: for resnet50 only, how many blocks its third stage has; 0 means its own six.
    """

    model: str
    task: str = INFERENCE
    batch: int = 1
    size: tuple[int, int] = (224, 224)
    blocks: int = 0

    @property
    def name(self) -> str:
        """``resnet50 inference, batch 8, 224×224``."""
        if self.model == ADDITIONS:
            return f"{COUNT:,} additions of {ELEMENTS} elements and their backward"
        depth = f" with {self.blocks} blocks" if self.blocks else ""
        return f"{self.model}{depth} {self.task}, batch {self.batch}, {by(self.size)}"

    @property
    def passes(self) -> int:
        """How many times the forward pass's multiply-adds are done: backward makes two gradients of each product."""
        return 3 if self.task == TRAINING else 1


@dataclass(frozen=True)
class Side:
    """Who does it: an engine, and how (tinynet fused or eager, torch in one of its two memory layouts)."""

    engine: str
    variant: str = ""

    @property
    def name(self) -> str:
        """``torch channels_last``."""
        return f"{self.engine} {self.variant}".strip()


TORCH_SIDES = (Side(TORCH, NCHW), Side(TORCH, CHANNELS_LAST))


def default_size(model: str) -> tuple[int, int]:
    """Height and width that the model is usually measured with."""
    if model.startswith("cifar"):
        return 32, 32
    return (640, 640) if model.endswith(parity.PYRAMID) else (224, 224)


def images(work: Work) -> np.ndarray:
    """float32 noise (N, 3, H, W), the same in every process."""
    shape = (work.batch, 3, *work.size)
    return generator("images").standard_normal(shape, np.float32)


def labels(work: Work, classes: int) -> np.ndarray:
    """Classes (N,), the same in every process."""
    return generator("labels").integers(0, classes, work.batch)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Values for a state_dict by name, the same in every process: float32, counters int64."""
    arrays = {name: parity.drawn(name, shape) for name, shape in shapes.items()}
    return {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}


def as_request(work: Work) -> dict[str, Any]:
    """The work as JSON takes it."""
    return {**work.__dict__, "size": list(work.size)}


def from_request(fields: dict[str, Any]) -> Work:
    """What `as_request` made."""
    return Work(**{**fields, "size": tuple(fields["size"])})
