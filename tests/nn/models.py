"""Models built alike from tinynet's `nn` and torch's, and carrying values between the two."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

import tinynet


def block(nn: Any, inplace: bool = True) -> Any:
    """A bottleneck with projection, written as torchvision writes it."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(4, 2, kernel_size=1, bias=False)
            self.bn1 = nn.BatchNorm2d(2)
            self.conv2 = nn.Conv2d(2, 2, kernel_size=3, stride=2, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(2)
            self.relu = nn.ReLU(inplace=inplace)
            self.downsample = nn.Sequential(nn.Conv2d(4, 2, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(2))

        def forward(self, x: Any) -> Any:
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            if inplace:
                out += self.downsample(x)
            else:
                out = out + self.downsample(x)
            return self.relu(out)

    return Block()


def net(nn: Any, inplace: bool = True) -> Any:
    """A small residual net with every container in it."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU6()),
            block=block(nn, inplace),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(2, 5),
        )
    )


def arrays(module: Any) -> dict[str, np.ndarray]:
    """Copies of everything in a module's state_dict."""
    return {name: np.array(value.detach().numpy()) for name, value in module.state_dict().items()}


def randomize(module: Any, seed: int = 0) -> None:
    """Fills parameters and statistics with numbers that are not those of a fresh layer."""
    rng = np.random.default_rng(seed)
    values = {
        name: rng.uniform(0.5, 1.5, array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in arrays(module).items()
    }
    module.load_state_dict(values)


def same_weights(torch: Any, ours: Any, theirs: Any) -> None:
    """Gives torch's module the (randomized) values of tinynet's."""
    randomize(ours)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in arrays(ours).items()})


def run(lib: Any, module: Any, inputs: list[np.ndarray], cotangent_seed: int = 1) -> dict[str, np.ndarray]:
    """Output, input gradients, parameter gradients and buffers after one forward and backward pass."""
    tensors = [lib.from_numpy(array.copy()) for array in inputs]
    for tensor in tensors:
        if tensor.dtype.is_floating_point:
            tensor.requires_grad_()
    output = module(*tensors)
    cotangent = np.random.default_rng(cotangent_seed).standard_normal(tuple(output.shape))
    output.backward(lib.from_numpy(np.asarray(cotangent, np.asarray(output.detach()).dtype)))
    results = {"output": output.detach().numpy()}
    results |= {f"grad {i}": t.grad.numpy() for i, t in enumerate(tensors) if t.grad is not None}
    results |= {f"grad {name}": p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    results |= {f"buffer {name}": np.array(b.numpy()) for name, b in module.named_buffers()}
    return results


def image(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tensor(*shape: int, seed: int = 0) -> tinynet.Tensor:
    return tinynet.from_numpy(image(*shape, seed=seed))
