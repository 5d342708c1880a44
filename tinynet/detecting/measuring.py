"""What a detector costs: time and activations of one image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

import tinynet
from tinynet import Tensor
from tinynet.detection.pyramid_detector import PyramidDetector
from tinynet.inspect.profile import MEGABYTE, profile
from tinynet.utils.progress import progress

ROUNDS = 60
WARM_UP_ROUNDS = 3


class Cost(NamedTuple):
    """`milliseconds`: the net's forward pass on one image, the median over rounds. `megabytes`: all that its layers
    hand on in it (1 MB is 2²⁰ bytes; what is computed in place counts once).
    """

    milliseconds: float
    megabytes: float
    parameters: int


def measure(models: Mapping[str, PyramidDetector], image: Tensor, rounds: int = ROUNDS) -> dict[str, Cost]:
    """The cost of each model on one image (C, H, W).

    The models take turns, so that whatever else slows the machine down meets all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with tinynet.no_grad():
        for model in models.values():
            model.eval()
            for _ in range(WARM_UP_ROUNDS):
                model([image])
        for _ in progress(range(rounds), desc="measuring", unit="round", delay=2):
            for name, model in models.items():
                started = time.perf_counter()
                model([image])
                seconds[name].append(time.perf_counter() - started)
        return {
            name: Cost(
                1e3 * float(np.median(seconds[name])),
                activations(model, image) / MEGABYTE,
                sum(parameter.numel() for parameter in model.parameters()),
            )
            for name, model in models.items()
        }


def activations(model: PyramidDetector, image: Tensor) -> int:
    """Bytes of all results of the model's layers on one image."""
    with tinynet.no_grad(), profile() as report:
        model([image])
    return report.models[model].output
