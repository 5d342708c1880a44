"""The four ways to look for objects of all sizes: Figure 1 of Lin et al. 2017 (arXiv 1612.03144), and its ablations.

One contract: images (N, 3, H, W) in, a list of ``Level(name, stride, features)`` out, finest first. A stride of 8
means that one cell of the map stands for 8×8 pixels of the image that came in.

- (a) `FeaturizedImagePyramid`: the net runs on every copy of a Gaussian image pyramid. Accurate, and dear.
- (b) `SingleFeatureMap`: the last map alone (C4 or C5). Cheap, and blind to small things.
- (c) `PyramidalFeatureHierarchy`: every stage's map as it comes (SSD). Fine maps are shallow, so they know little.
- (d) `FPN`: the top-down pathway tells the fine maps what the deep ones know. ``top_down=False``,
  ``lateral=False`` and ``finest_only=True`` are the paper's ablations (tables 1 and 2: d, e, f).
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np

from tinynet import Tensor, nn
from tinynet.errors import DtypeError, ShapeError
from tinynet.models.feature_maps import FeatureMaps
from tinynet.models.fpn import FeaturePyramidNetwork
from tinynet.models.resnet import NormLayer
from tinynet.nn import functional as F

__all__ = ["FPN", "FeaturizedImagePyramid", "Level", "PyramidalFeatureHierarchy", "SingleFeatureMap", "image_pyramid"]

# The binomial filter of Burt and Adelson 1983, close to a Gaussian, and exactly 0 at the highest frequency.
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


class Level(NamedTuple):
    """One map of a pyramid: its name ("C4", "P3", "x1/2"), its stride in pixels of the input, its features."""

    name: str
    stride: float
    features: Tensor


def image_pyramid(image: Tensor, down: int = 2, up: int = 1) -> list[Level]:
    """Copies of an image in several sizes, the largest first: a Gaussian pyramid (Burt and Adelson 1983).

    Args:
        image: (N, C, H, W), floating.
        down: how many times to halve (sizes are rounded up). The image is smoothed before, or fine detail would
            come back as false coarse detail (aliasing).
        up: how many times to double, bilinearly.

    Returns:
        Levels named "x2", "x1", "x1/2", ... whose stride is in pixels of the image: 0.5, 1, 2, ...

    Raises:
        ShapeError: not four dimensions, or too small to halve that often.
    """
    if image.ndim != 4:
        raise ShapeError(f"image_pyramid: expected images of shape (N, C, H, W), got {list(image.shape)}")
    if not image.is_floating_point():
        raise DtypeError(f"image_pyramid: expected a floating image, got {image.dtype}")
    if down < 0 or up < 0:
        raise ValueError(f"image_pyramid: down and up count copies, got down={down}, up={up}")
    height, width = image.shape[-2:]
    if min(height, width) < 2**down:
        raise ShapeError(f"image_pyramid: {height}×{width} cannot be halved {down} times: it needs {2**down} pixels")
    levels = [Level("x1", 1.0, image)]
    for step in range(1, up + 1):
        levels.insert(0, Level(f"x{2**step}", 2.0**-step, _double(levels[0].features)))
    for step in range(1, down + 1):
        levels.append(Level(f"x1/{2**step}", 2.0**step, _halve(levels[-1].features)))
    return levels


def _double(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    return F.interpolate(image, size=(2 * height, 2 * width), mode="bilinear")


def _halve(image: Tensor) -> Tensor:
    """Smooths with the binomial filter in both directions and keeps every second pixel, the first one included."""
    samples, channels, height, width = image.shape
    kernel = image.new_tensor(np.outer(BINOMIAL, BINOMIAL)).reshape(1, 1, 5, 5)
    mirrored = image[:, :, _mirror(height)][:, :, :, _mirror(width)]
    planes = mirrored.reshape(samples * channels, 1, height + 4, width + 4)
    smaller = F.conv2d(planes, kernel, stride=2)
    return smaller.reshape(samples, channels, *smaller.shape[-2:])


def _mirror(size: int) -> np.ndarray:
    """(size + 4,) positions that continue a row by two on each side, reflected at the centres of its end pixels."""
    period = max(2 * size - 2, 1)
    positions = np.arange(-2, size + 2) % period
    return np.minimum(positions, period - positions)


class _Design(nn.Module):
    """One of the designs on the maps of a backbone."""

    def __init__(self, body: FeatureMaps) -> None:
        super().__init__()
        self.body = body

    def level(self, name: str, features: Tensor) -> Level:
        """The backbone's map of that name with its stride."""
        return Level(name, self.body.strides[name], features)


class FeaturizedImagePyramid(_Design):
    """Design (a): the backbone's last map, computed anew on every copy of the image pyramid.

    `down` and `up` as of `image_pyramid`; C5 on images of half, single and double size has strides 64, 32, 16.
    With `own_norms` every copy has batch norms of its own, in the body given: enlarged images are smoother, and
    running statistics of all sizes together fit none of them.
    """

    def __init__(self, body: FeatureMaps, down: int = 1, up: int = 1, own_norms: bool = False) -> None:
        super().__init__(body)
        self.down, self.up = down, up
        self._norms = _split_norms(body, down + up + 1) if own_norms else []

    def forward(self, images: Tensor, only: int | None = None) -> list[Level]:
        """All levels, or the one at the place `only` (0 is the finest): training takes one copy of each batch."""
        copies = image_pyramid(images, self.down, self.up)
        levels = []
        for number in range(len(copies)) if only is None else [only]:
            image = copies[number]
            for norm in self._norms:
                norm.chosen = number
            name, features = list(self.body(image.features).items())[-1]
            levels.append(Level(f"{name} of {image.name}", self.body.strides[name] * image.stride, features))
        return levels


class _NormOfEachCopy(nn.Module):
    """A batch norm for each copy of an image pyramid; `chosen` says whose turn it is."""

    def __init__(self, norm: nn.BatchNorm2d, copies: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([copy.deepcopy(norm) for _ in range(copies)])
        self.chosen = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[self.chosen](x)


def _split_norms(body: nn.Module, copies: int) -> list[_NormOfEachCopy]:
    """Puts one in the place of every batch norm in `body`."""
    made = []
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                made.append(_NormOfEachCopy(child, copies))
                setattr(module, name, made[-1])
    return made


class SingleFeatureMap(_Design):
    """Design (b): the backbone's last map and nothing else."""

    def forward(self, image: Tensor) -> list[Level]:
        return [self.level(*list(self.body(image).items())[-1])]


class PyramidalFeatureHierarchy(_Design):
    """Design (c): every map as the backbone leaves it; nothing flows back up."""

    def forward(self, image: Tensor) -> list[Level]:
        return [self.level(name, features) for name, features in self.body(image).items()]


class FPN(_Design):
    """Design (d): the feature pyramid network, and what is left of it when a part is taken away.

    Args:
        body: the backbone's maps; their channels are its own.
        out_channels: channels of every level.
        lateral: add the 1×1 of the backbone's own map (without: upsampled semantics alone).
        top_down: add the coarser level (without: every level for itself).
        finest_only: give out the finest level alone.
        norm_layer: a norm after each of the pyramid's convolutions.
        lateral_norm: with False, none after the 1×1: what is added keeps the size that the net gives it.
        top_down_scale: the coarser level is multiplied by this before it is added.

    Raises:
        ValueError: neither lateral connections nor a top-down pathway, or a `top_down_scale` without both.
    """

    def __init__(
        self,
        body: FeatureMaps,
        out_channels: int = 256,
        lateral: bool = True,
        top_down: bool = True,
        finest_only: bool = False,
        norm_layer: NormLayer | None = None,
        lateral_norm: bool = True,
        top_down_scale: float = 1.0,
    ) -> None:
        super().__init__(body)
        if not (lateral or top_down):
            raise ValueError("FPN: without lateral connections and without a top-down pathway nothing is left")
        if top_down_scale != 1 and not (lateral and top_down):
            raise ValueError(f"FPN: top_down_scale={top_down_scale} weighs two maps, but there is one to each level")
        self.fpn = _AblatedFPN(
            list(body.channels.values()), out_channels, lateral, top_down, norm_layer, lateral_norm, top_down_scale
        )
        self.finest_only = finest_only
        if finest_only:
            self.fpn.keep_finest()

    def forward(self, image: Tensor) -> list[Level]:
        pyramid = self.fpn(self.body(image))
        levels = [Level(f"P{name[1:]}", self.body.strides[name], features) for name, features in pyramid.items()]
        return levels[:1] if self.finest_only else levels


class _AblatedFPN(FeaturePyramidNetwork):
    """The pyramid without one of its two kinds of connection; what is not used is not there, nor computed."""

    def __init__(
        self, in_channels_list: list[int], out_channels: int, lateral: bool, top_down: bool,
        norm_layer: NormLayer | None, lateral_norm: bool, top_down_scale: float,
    ) -> None:  # fmt: skip
        super().__init__(in_channels_list, out_channels, norm_layer=norm_layer)
        self.lateral, self.top_down, self.top_down_scale = lateral, top_down, top_down_scale
        if norm_layer is not None and not lateral_norm:
            bare = FeaturePyramidNetwork(in_channels_list, out_channels)
            self.inner_blocks = bare.inner_blocks
        if not lateral:
            for level in range(len(in_channels_list) - 1):
                self.inner_blocks[level] = nn.Identity()

    def merge(self, level: int, features: Tensor, coarser: Tensor) -> Tensor:
        if not self.top_down:
            return self.inner_blocks[level](features)
        if not self.lateral:
            return F.interpolate(coarser, size=features.shape[-2:], mode="nearest")
        if self.top_down_scale != 1:
            coarser = coarser * self.top_down_scale
        return super().merge(level, features, coarser)

    def keep_finest(self) -> None:
        """Drops the 3×3 of all levels but the finest."""
        for level in range(1, len(self.layer_blocks)):
            self.layer_blocks[level] = nn.Identity()
