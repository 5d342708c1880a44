"""Networks on the same weights: whole ones, float32 in evaluation and float64 in training mode; blocks in training.

On torch the torch-style source of tests/models is executed, on tinynet its own models are. Weights are drawn by
their names. What is compared: the maps of every stage, logits, the gradient of every parameter and of the image,
and in training the running statistics.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tests.comparison import to_numpy
from tests.models.sources import torch_style
from tests.reference.cases import generator, tensors


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values for the entry `name` of a state_dict, such that activations neither die nor explode."""
    rng = generator("models", name)
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if len(shape) > 1:  # He et al. 2015: variance 2 / fan_in
        return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32) * np.float32(0.2)


@functools.lru_cache(maxsize=1)
def drawn_state(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, np.ndarray]:
    """The last network's weights are kept: its cases follow each other."""
    return {name: drawn(name, shape) for name, shape in shapes}


def fill(lib: ModuleType, model: Any, dtype: str) -> Any:
    """Draws all parameters and statistics of a model and casts it to `dtype`."""
    state = drawn_state(tuple((name, tuple(value.shape)) for name, value in model.state_dict().items()))
    model.load_state_dict({name: lib.from_numpy(array) for name, array in state.items()})
    return model.double() if dtype == "float64" else model


def source(lib: ModuleType) -> Any:
    """Where the models come from: tinynet's are tested, torch's are the reference."""
    if lib.__name__ == "torch":
        return torch_style("torch")
    from tinynet import models

    return models


def collect_maps(model: Any, results: dict[str, np.ndarray]) -> None:
    """Puts the output of layer1 to layer4 into `results` as C2 to C5, at the next forward pass."""
    body = getattr(model, "body", model)
    for stage in (1, 2, 3, 4):
        layer = getattr(body, f"layer{stage}", None)
        if layer is not None:
            layer.register_forward_hook(
                lambda module, args, output, name=f"C{stage + 1}": results.update({name: to_numpy(output).copy()})
            )


def statistics(model: Any) -> dict[str, np.ndarray]:
    """Running means and variances, those of one stage in one array."""
    found: dict[str, list[np.ndarray]] = {}
    for name, buffer in model.named_buffers():
        kind = name.rpartition(".")[2]
        stage = next((part for part in name.split(".") if part.startswith("layer")), "stem")
        found.setdefault(f"{kind} of {stage}", []).append(to_numpy(buffer).reshape(-1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class ModelCase:
    """One pass through a network, and back. The `seed` draws the image."""

    name: str
    build: Callable[[Any], Any]
    shape: tuple[int, ...]
    seed: int = 0
    family: str = ""

    def training(self, dtype: str) -> bool:
        """A deep network's float32 gradients in training say nothing: torch's own are per cents off."""
        return dtype == "float64"

    def evaluate(
        self, lib: ModuleType, dtype: str, every_buffer: bool = False, prepare: Callable[[Any], Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Results by name; statistics by stage or, if `every_buffer`, each by name. `prepare` sees the model."""
        model = fill(lib, self.build(source(lib)), dtype).train(self.training(dtype))
        results: dict[str, np.ndarray] = {}
        collect_maps(model, results)
        if prepare is not None:
            prepare(model)
        image = generator("image", self.seed).standard_normal(self.shape).astype(dtype)
        leaf = lib.from_numpy(image).requires_grad_()
        outputs = list(tensors(model(leaf)))
        results |= {name: to_numpy(output).copy() for name, output in outputs}
        self._backward(lib, [output for _, output in outputs])
        results["gradient of the image"] = to_numpy(leaf.grad)
        for name, parameter in model.named_parameters():
            results[f"gradient of {name}"] = to_numpy(parameter.grad)
        if model.training:
            buffers = {f"buffer {name}": to_numpy(buffer) for name, buffer in model.named_buffers()}
            results |= buffers if every_buffer else statistics(model)
        return results

    def _backward(self, lib: ModuleType, outputs: list[Any]) -> None:
        """One pass for all outputs, each with a random cotangent."""
        total = 0.0
        for position, output in enumerate(outputs):
            cotangent = generator("cotangent", position).standard_normal(tuple(output.shape))
            total = total + (output * lib.from_numpy(cotangent.astype(to_numpy(output).dtype))).sum()
        total.backward()


class BlockCase(ModelCase):
    """One block, in training mode for both dtypes."""

    def training(self, dtype: str) -> bool:
        return True


def fpn(models: Any) -> Any:
    return models.resnet_fpn_backbone(backbone_name="resnet50", norm_layer=None, trainable_layers=5)


def block(stage: int, index: int, size: tuple[int, int], network: str = "resnet50", seed: int = 0) -> BlockCase:
    """A block of a network on as many channels as it takes; `size` is (height, width) of its input."""
    channels = (64 if stage == 1 else 128 * 2 ** (stage - 1)) if index == 0 else 128 * 2**stage
    return BlockCase(
        f"{network} layer{stage}.{index}",
        lambda models: getattr(getattr(models, network)(), f"layer{stage}")[index],
        (2, channels, *size),
        seed,
    )


EVEN, ODD = (2, 3, 64, 64), (2, 3, 75, 91)

# float32 gradients are compared: the seeds give images on which no ReLU that matters is within rounding of its
# kink. On most images a few of four million are, and a single one that differs moves gradients by per cents, also
# of torch beside torch. With these, the float32 gradients stay within 1e-5 of float64's when the images are
# perturbed by 3e-6, ten times the rounding.
CASES = [
    ModelCase("resnet50 64x64", lambda models: models.resnet50(), EVEN, seed=5),
    ModelCase("resnet50 75x91", lambda models: models.resnet50(), ODD, seed=11),
    ModelCase("resnet101 64x64", lambda models: models.resnet101(), EVEN, seed=9),
    ModelCase("resnext50_32x4d 64x64", lambda models: models.resnext50_32x4d(), EVEN, seed=4),
    ModelCase("resnet50 FPN 75x91", fpn, ODD, seed=6),
    block(1, 0, (19, 23), seed=6),
    block(2, 0, (19, 23), seed=4),
    block(2, 1, (10, 12), seed=3),
    block(3, 0, (10, 12), seed=1),
    block(4, 2, (3, 3)),
    block(2, 0, (19, 23), "resnext50_32x4d", seed=1),
]
# The other size of each network is compared with a live torch only, which is told on which side of a kink to be.
LIVE = [
    ModelCase("resnet101 75x91", lambda models: models.resnet101(), ODD),
    ModelCase("resnext50_32x4d 75x91", lambda models: models.resnext50_32x4d(), ODD),
    ModelCase("resnet50 FPN 64x64", fpn, EVEN),
]
