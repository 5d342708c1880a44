"""Small models for fusion tests, and how a fused one is compared with its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinynet
from tests.comparison import relative_error
from tinynet import Tensor, nn
from tinynet.fusion import FusedModel
from tinynet.fusion.structure import taken_out

ERROR = {"float32": 1e-5, "float64": 1e-12}


class Net(nn.Module):
    """Layers by name, and a forward that is given as a function of the net and its inputs."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.__dict__["_forward"] = forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(self, *args, **kwargs)


def net(forward: Callable[..., Any], **layers: nn.Module) -> Net:
    """A `Net` in evaluation mode whose norms have something to do."""
    return randomised(Net(forward, **layers)).eval()


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with random statistics and affine maps in all its norms, as after training."""
    generator = np.random.default_rng(seed)
    for module in model.modules():
        if getattr(module, "running_mean", None) is None:
            continue
        size, dtype = module.running_mean.shape, module.running_mean.dtype
        for tensor, values in (
            (module.running_mean, generator.normal(0, 0.2, size)),
            (module.running_var, generator.uniform(0.5, 2, size)),
            (module.weight, generator.uniform(0.5, 1.5, size)),
            (module.bias, generator.normal(0, 0.2, size)),
        ):
            with tinynet.no_grad():
                if tensor is not None:
                    tensor.copy_(tinynet.from_numpy(values).to(dtype))
    return model


def image(*shape: int, seed: int = 0, dtype: str = "float32") -> Tensor:
    return tinynet.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def arrays_of(output: Any) -> list[np.ndarray]:
    return [tensor.detach().numpy().copy() for tensor in taken_out(output, "the output")[1]]


def assert_same(model: nn.Module, fused: FusedModel, *args: Any, **kwargs: Any) -> Any:
    """Calls both and compares structure, shapes, dtypes and values; returns the fused model's output."""
    with tinynet.no_grad():
        expected, actual = model(*args, **kwargs), fused(*args, **kwargs)
    assert taken_out(actual, "")[0] == taken_out(expected, "")[0]
    for one, other in zip(arrays_of(actual), arrays_of(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if one.dtype.kind == "f":
            assert relative_error(one, other) <= ERROR[one.dtype.name]
        else:
            assert np.array_equal(one, other)
    return actual


def titles(fused: FusedModel) -> list[str]:
    """What the steps of the last plan do."""
    return [step.title for step in fused.plan().steps]
