"""Every compiled function compiled once, so that nobody waits for a compiler later.

Compiled code depends on the types of a kernel's arguments, and which of a kernel's compiled functions run depends
on shapes and settings. So each kernel is called with all its kinds of arguments, and then small models run
forward, backward and fused, for what is launched beside the kernels of the registry.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet import kernels, models
from tinynet.kernels import cache, geometry, registry
from tinynet.utils.progress import progress

Make = Callable[..., np.ndarray]
Arguments = list[tuple[Any, ...]]
ONE, TWO, NONE = (1, 1), (2, 2), (0, 0)

# (input, weight, stride, padding, dilation, groups): the layers of ResNet, ResNeXt and FPN, and odd ones.
CONVOLUTIONS = [
    ((1, 3, 64, 64), (64, 3, 7, 7), TWO, (3, 3), ONE, 1),
    ((2, 3, 32, 32), (16, 3, 3, 3), ONE, ONE, ONE, 1),
    ((2, 64, 28, 28), (64, 64, 3, 3), ONE, ONE, ONE, 1),
    ((2, 64, 28, 28), (64, 64, 3, 3), TWO, ONE, ONE, 1),
    ((2, 64, 28, 28), (64, 64, 3, 3), ONE, TWO, TWO, 1),
    ((2, 64, 28, 28), (256, 64, 1, 1), ONE, NONE, ONE, 1),
    ((2, 64, 28, 28), (256, 64, 1, 1), TWO, NONE, ONE, 1),
    ((1, 512, 7, 7), (512, 512, 3, 3), ONE, ONE, ONE, 1),
    ((2, 5, 9, 7), (7, 5, 3, 2), (2, 1), (1, 0), (1, 2), 1),
    ((2, 128, 14, 14), (128, 4, 3, 3), ONE, ONE, ONE, 32),
    ((2, 128, 14, 14), (128, 4, 3, 3), TWO, ONE, ONE, 32),
    ((2, 32, 14, 14), (32, 1, 3, 3), ONE, ONE, ONE, 32),
    ((2, 32, 14, 14), (64, 1, 3, 3), TWO, ONE, ONE, 32),
]
IMAGES = [(2, 64, 28, 28), (2, 5, 9, 7)]
LARGE = (2, 64, 96, 96)  # more than a million elements: worth several threads


def _elementwise(make: Make) -> Arguments:
    return [(make(*shape),) for shape in [*IMAGES, LARGE]] + [(make(64, 10),)]


def _pairs(make: Make) -> Arguments:
    return [(make(*shape), make(*shape)) for shape in [*IMAGES, LARGE]] + [(make(64, 10), make(64, 10))]


def _scale_shifts(make: Make) -> Arguments:
    return [
        (make(*shape), make(shape[1]), make(shape[1]), make(*shape) if residual else None, relu)
        for shape in IMAGES for residual in (False, True) for relu in (False, True)
    ]  # fmt: skip


def _flat(make: Make) -> list[np.ndarray]:
    return [make(2, 64, 784), make(64, 10, 1), make(2, 5, 63)]


def _batch_norms(make: Make) -> Arguments:
    return [(x, make(x.shape[1]), make(x.shape[1]), 1e-5) for x in _flat(make)] + [(make(2, 5, 63), None, None, 1e-5)]


def _batch_norms_eval(make: Make) -> Arguments:
    def of(x: np.ndarray, affine: bool) -> tuple[Any, ...]:
        scale = (make(x.shape[1]), make(x.shape[1])) if affine else (None, None)
        return (x, *scale, make(x.shape[1]), np.abs(make(x.shape[1])), 1e-5)

    return [of(x, affine) for x in _flat(make) for affine in (True, False)]


def _batch_norm_gradients(make: Make) -> Arguments:
    def of(x: np.ndarray, affine: bool) -> tuple[Any, ...]:
        channels = x.shape[1]
        return (make(*x.shape), x, make(channels) if affine else None, make(channels), np.abs(make(channels)), 1e-5)

    return [of(x, affine) for x in _flat(make) for affine in (True, False)]


def _output(x: Sequence[int], weight: Sequence[int], window: Any) -> tuple[int, ...]:
    return (x[0], weight[0], *geometry.convolution_output_size(x[2:], weight[2:], *window))


def _convolutions(make: Make) -> Arguments:
    return [
        (make(*x), make(*weight), make(weight[0]) if bias else None, *settings)
        for x, weight, *settings in CONVOLUTIONS for bias in (False, True)
    ]  # fmt: skip


def _input_gradients(make: Make) -> Arguments:
    return [
        (make(*_output(x, weight, window)), make(*weight), x, *window, groups)
        for x, weight, *window, groups in CONVOLUTIONS
    ]


def _weight_gradients(make: Make) -> Arguments:
    return [
        (make(*_output(x, weight, window)), make(*x), weight, *window, groups)
        for x, weight, *window, groups in CONVOLUTIONS
    ]


def _im2cols(make: Make) -> Arguments:
    return [(make(*x), weight[2:], *window) for x, weight, *window, groups in CONVOLUTIONS if groups == 1]


def _col2ims(make: Make) -> Arguments:
    def columns(x: Sequence[int], weight: Sequence[int], window: Any) -> np.ndarray:
        y = _output(x, weight, window)
        return make(x[0], x[1] * weight[2] * weight[3], y[2] * y[3])

    return [
        (columns(x, weight, window), x, weight[2:], *window)
        for x, weight, *window, groups in CONVOLUTIONS if groups == 1
    ]  # fmt: skip


POOLS = [((3, 3), TWO, ONE), (TWO, TWO, NONE), ((3, 2), (1, 2), (1, 0))]


def _max_pools(make: Make) -> Arguments:
    return [(make(*x), *pool, ONE, ceil) for x in IMAGES for pool in POOLS for ceil in (False, True)]


def _max_pool_gradients(make: Make) -> Arguments:
    calls = []
    for x, *window, ceil in _max_pools(make):
        values, indices = kernels.max_pool(x, *window, ceil)
        calls.append((make(*values.shape), indices, x.shape))
    return calls


def _average_pools(make: Make) -> Arguments:
    return [(make(*x), *pool, ceil, True, None) for x in IMAGES for pool in POOLS for ceil in (False, True)]


def _average_pool_gradients(make: Make) -> Arguments:
    return [(make(*kernels.average_pool(x, *rest).shape), x.shape, *rest) for x, *rest in _average_pools(make)]


def _adaptive_pools(make: Make) -> Arguments:
    return [(make(*x), size) for x in IMAGES for size in (ONE, (3, 4), (7, 7))]


def _adaptive_pool_gradients(make: Make) -> Arguments:
    return [(make(*x[:2], *size), x) for x in IMAGES for size in (ONE, (3, 4), (7, 7))]


SIZES = [(56, 56), (13, 11), (4, 3)]


def _resizes(make: Make) -> Arguments:
    return [(make(*x), size, None, exact) for x in IMAGES for size in SIZES for exact in (False, True)]


def _resize_gradients(make: Make) -> Arguments:
    return [(make(*x[:2], *size), x, None, exact) for x in IMAGES for size in SIZES for exact in (False, True)]


def _blends(make: Make) -> Arguments:
    return [(make(*x), size, corners, None) for x in IMAGES for size in SIZES for corners in (False, True)]


def _blend_gradients(make: Make) -> Arguments:
    return [(make(*x[:2], *size), x, corners, None) for x in IMAGES for size in SIZES for corners in (False, True)]


def _suppressions(make: Make) -> Arguments:
    corners = np.abs(make(50, 2))
    return [(np.concatenate([corners, corners + 1], 1), make(50), 0.5)]


def _regions(make: Make) -> np.ndarray:
    """RoIs (image, x1, y1, x2, y2) on images of 28×28."""
    rois = np.array([[0, 1.5, 2, 20, 25], [1, 0, 0, 28, 28], [1, 3, 4, 9, 6]])
    return rois.astype(make(1).dtype)


def _region_samples(make: Make) -> Arguments:
    return [(make(2, 64, 28, 28), _regions(make), (7, 7), 1.0, ratio, aligned)
            for ratio, aligned in ((2, False), (0, True))]  # fmt: skip


def _region_gradients(make: Make) -> Arguments:
    return [(make(3, 64, 7, 7), _regions(make), (2, 64, 28, 28), 1.0, ratio, aligned)
            for ratio, aligned in ((2, False), (0, True))]  # fmt: skip


def _focal_losses(make: Make) -> Arguments:
    return [(make(30, 10), np.abs(make(30, 10)) % 1, alpha, gamma) for alpha in (0.25, -1.0) for gamma in (2.0, 1.5)]


# The calls that reach every compiled function of each kernel; a test fails for a kernel that is not here.
CALLS: dict[str, Callable[[Make], Arguments]] = {
    "relu": _elementwise,
    "relu_backward": _pairs,
    "scale_shift": _scale_shifts,
    "channel_sum": _elementwise,
    "batch_norm_train": _batch_norms,
    "batch_norm_train_backward": _batch_norm_gradients,
    "batch_norm_eval": _batch_norms_eval,
    "batch_norm_eval_backward": _batch_norm_gradients,
    "im2col": _im2cols,
    "col2im": _col2ims,
    "convolution": _convolutions,
    "convolution_input_gradient": _input_gradients,
    "convolution_weight_gradient": _weight_gradients,
    "matrix_product": lambda make: [(make(n, 256), make(256, 100)) for n in (1, 8, 200)],
    "max_pool": _max_pools,
    "max_pool_backward": _max_pool_gradients,
    "average_pool": _average_pools,
    "average_pool_backward": _average_pool_gradients,
    "adaptive_average_pool": _adaptive_pools,
    "adaptive_average_pool_backward": _adaptive_pool_gradients,
    "nearest": _resizes,
    "nearest_backward": _resize_gradients,
    "bilinear": _blends,
    "bilinear_backward": _blend_gradients,
    "nms": _suppressions,
    "roi_align": _region_samples,
    "roi_align_backward": _region_gradients,
    "focal_loss": _focal_losses,
}

MODELS: dict[str, Callable[[], tinynet.nn.Module]] = {
    "ResNet": lambda: models.ResNet(models.Bottleneck, [1, 1, 1, 1]),
    "CIFAR ResNet": lambda: models.CifarResNet(8),
    "ResNeXt": lambda: models.ResNet(models.Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4),
    "group norm": lambda: models.ResNet(models.BasicBlock, [1, 1, 1, 1], norm_layer=tinynet.nn.GroupNorm),
    "FPN": lambda: models.resnet_fpn_backbone("resnet18", trainable_layers=5),
}


@dataclass(frozen=True)
class WarmUp:
    """What `warmup` did: the functions that had to be compiled, by file name, the seconds, and the cache's folder."""

    compiled: tuple[str, ...]
    seconds: float
    folder: Path | None


def warmup(dtypes: Sequence[str] = ("float32",)) -> WarmUp:
    """Compiles all that `tinynet` compiles, for these dtypes, into the user's cache; shows a progress bar.

    What is in the cache already is only loaded. Raises RuntimeError where Numba cannot be used.
    """
    started, before = time.perf_counter(), _files()
    names = all_kernels()
    with kernels.backend("numba"), progress(total=len(dtypes) * (len(names) + len(MODELS)), desc="warm-up") as bar:
        for dtype in dtypes:
            for name in names:
                bar.set_postfix_str(f"{name} {dtype}")
                _call(name, dtype)
                bar.update()
            for name, build in MODELS.items():
                bar.set_postfix_str(f"{name} {dtype}")
                _run(build(), dtype)
                bar.update()
    new = _files() - before
    return WarmUp(tuple(sorted(new)), time.perf_counter() - started, cache.folder())


def all_kernels() -> tuple[str, ...]:
    """Names of all kernels, also of those whose module nobody has imported yet."""
    for module in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        importlib.import_module(module.name)
    return kernels.kernel_names()


def _call(name: str, dtype: str) -> None:
    random = np.random.default_rng(0)

    def make(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(dtype)

    kernel = registry.kernel_named(name)
    for arguments in CALLS.get(name, lambda make: [])(make):
        kernel(*arguments)


def _run(model: tinynet.nn.Module, dtype: str) -> None:
    """A step in training mode, then the evaluation mode's forward, eager and fused."""
    model = model.to(getattr(tinynet, dtype))
    images = tinynet.randn(2, 3, 64, 64).to(getattr(tinynet, dtype))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizers = tinynet.optim.SGD(parameters, lr=1e-3, momentum=0.9), tinynet.optim.AdamW(parameters, lr=1e-3)
    _sum(model(images)).backward()
    for optimizer in optimizers:
        optimizer.step()
    model.eval()
    with tinynet.inference_mode():
        model(images)
        tinynet.fuse(model, images)(images)


def _sum(output: Any) -> Any:
    levels = output.values() if isinstance(output, dict) else [output]
    return sum((level * level).mean() for level in levels)


def _files() -> set[str]:
    folder = cache.folder()
    return set() if folder is None else {path.name for path in folder.glob("*.bin")}
