"""The Feature Pyramid Network: Lin et al. 2017, "Feature Pyramid Networks for Object Detection" (arXiv 1612.03144).

A backbone's deep maps know what is there, its shallow maps where. The pyramid gives every level both: deep
semantics are carried down by upsampling (top-down), positions come in from the side (lateral 1×1), and a 3×3
smooths what the addition left. Names, defaults and state_dict keys are those of torchvision's
``ops/feature_pyramid_network.py`` and ``models/detection/backbone_utils.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from tinynet import Tensor, nn
from tinynet.errors import ShapeError
from tinynet.models.feature_maps import IntermediateLayerGetter
from tinynet.models.frozen_batch_norm import FrozenBatchNorm2d
from tinynet.models.registry import get_model
from tinynet.models.resnet import NormLayer, ResNet, Weights
from tinynet.nn import functional as F

__all__ = [
    "BackboneWithFPN", "ExtraFPNBlock", "FeaturePyramidNetwork", "LastLevelMaxPool", "LastLevelP6P7",
    "resnet_fpn_backbone",
]  # fmt: skip

Levels = OrderedDict[str, Tensor]


class ExtraFPNBlock(nn.Module):
    """Adds coarser levels to a pyramid; the base class of what `FeaturePyramidNetwork` takes as `extra_blocks`."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """The pyramid's maps P, the backbone's maps C and the levels' names in; maps P and names out."""
        raise NotImplementedError


class LastLevelMaxPool(ExtraFPNBlock):
    """One more level, "pool": every second position of the coarsest (P6 of the paper's section 4.1)."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        coarser = results[-1][:, :, ::2, ::2]  # max_pool2d with a 1×1 window and stride 2
        return [*results, coarser], [*names, "pool"]


class LastLevelP6P7(ExtraFPNBlock):
    """RetinaNet's levels "p6" and "p7" (Lin et al. 2017, arXiv 1708.02002): p6 by a 3×3 of stride 2, p7 likewise
    from relu(p6). p6 reads P5 if ``in_channels == out_channels``, else C5.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        _initialise(self)
        self.use_P5 = in_channels == out_channels

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        source, level = (results[-1], f"P of {names[-1]!r}") if self.use_P5 else (x[-1], f"C of {names[-1]!r}")
        if source.shape[1] != self.p6.in_channels:
            raise ShapeError(
                f"LastLevelP6P7: p6 reads {self.p6.in_channels} channels, but level {level} is {list(source.shape)}"
            )
        p6 = self.p6(source)
        p7 = self.p7(F.relu(p6))
        return [*results, p6, p7], [*names, "p6", "p7"]


class FeaturePyramidNetwork(nn.Module):
    """As many maps out as in, all with `out_channels` channels, each knowing the coarser ones.

    ``forward`` takes an OrderedDict of maps (N, C, H, W), finest first, and returns one with the same names
    (and those of `extra_blocks`) and sizes. Sizes need not halve: each map is upsampled to its lateral's size.

    Args:
        in_channels_list: channels of C2, C3, ..., finest first.
        out_channels: channels of every level (256 in the paper).
        extra_blocks: makes coarser levels (`LastLevelMaxPool`, `LastLevelP6P7`).
        norm_layer: a norm after each convolution, which then has no bias.

    Raises:
        ShapeError: a level too few or too many, or with other channels; the message names it.
    """

    _version = 2  # since then the convolutions sit in a Sequential: inner_blocks.0.0.weight

    def __init__(
        self,
        in_channels_list: list[int],
        out_channels: int,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__()
        if not in_channels_list or min(in_channels_list) < 1:
            raise ShapeError(f"FeaturePyramidNetwork: every level needs channels, got {list(in_channels_list)}")
        if not isinstance(extra_blocks, ExtraFPNBlock | None):
            raise TypeError(f"extra_blocks should be of type ExtraFPNBlock, got {type(extra_blocks).__name__}")
        self.in_channels_list = list(in_channels_list)
        self.inner_blocks = nn.ModuleList(
            [_convolution(channels, out_channels, 1, norm_layer) for channels in in_channels_list]
        )
        self.layer_blocks = nn.ModuleList(
            [_convolution(out_channels, out_channels, 3, norm_layer) for _ in in_channels_list]
        )
        _initialise(self)
        self.extra_blocks = extra_blocks  # after the initialisation: these have their own

    def forward(self, x: Levels) -> Levels:
        names, maps = list(x.keys()), list(x.values())
        self._check(names, maps)

        inner = self.inner_blocks[-1](maps[-1])
        results = [self.layer_blocks[-1](inner)]
        for level in reversed(range(len(maps) - 1)):
            inner = self.merge(level, maps[level], inner)
            results.insert(0, self.layer_blocks[level](inner))

        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, maps, names)
        return OrderedDict(zip(names, results))

    def merge(self, level: int, features: Tensor, coarser: Tensor) -> Tensor:
        """Positions from the side plus semantics from above, brought to the lateral's size."""
        lateral = self.inner_blocks[level](features)
        return lateral + F.interpolate(coarser, size=lateral.shape[-2:], mode="nearest")

    def _check(self, names: list[str], maps: list[Tensor]) -> None:
        expected = self.in_channels_list
        if len(maps) != len(expected):
            difference = (
                f"nothing for level {len(maps)} ({expected[len(maps)]} channels)"
                if len(maps) < len(expected)
                else f"level {names[len(expected)]!r} is one too many"
            )
            raise ShapeError(
                f"FeaturePyramidNetwork: expected {len(expected)} levels with channels {expected}, "
                f"got {len(maps)}: {names}; {difference}"
            )
        for name, features, channels in zip(names, maps, expected):
            if features.ndim != 4 or features.shape[1] != channels:
                raise ShapeError(
                    f"FeaturePyramidNetwork: level {name!r} must have shape (N, {channels}, H, W), "
                    f"got {list(features.shape)}"
                )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        version = local_metadata.get("version")
        if version is None or version < 2:
            _rename_old_keys(state_dict, prefix, len(self.inner_blocks))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _convolution(in_channels: int, out_channels: int, kernel_size: int, norm_layer: NormLayer | None) -> nn.Sequential:
    """A convolution that keeps the size, then the norm if there is one; the Sequential gives torchvision's keys."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm_layer is None)
    return nn.Sequential(convolution, *([] if norm_layer is None else [norm_layer(out_channels)]))


def _initialise(model: nn.Module) -> None:
    """Convolutions uniform with variance 1 / fan_in, their biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0)


def _rename_old_keys(state_dict: dict[str, Any], prefix: str, levels: int) -> None:
    """``inner_blocks.0.weight`` of files from before torchvision 0.13 becomes ``inner_blocks.0.0.weight``."""
    for block in ("inner_blocks", "layer_blocks"):
        for level in range(levels):
            for kind in ("weight", "bias"):
                old, new = (f"{prefix}{block}.{level}{part}.{kind}" for part in ("", ".0"))
                if old in state_dict:
                    state_dict[new] = state_dict.pop(old)


class BackboneWithFPN(nn.Module):
    """A backbone and the pyramid on its stages: images (N, 3, H, W) → OrderedDict of maps (N, out_channels, h, w).

    Args:
        backbone: a model that runs its children in order.
        return_layers: the children whose outputs feed the pyramid, finest first, and the levels' names.
        in_channels_list: their channels.
        out_channels: channels of every level.
        extra_blocks: coarser levels; `LastLevelMaxPool` by default.
        norm_layer: a norm after each of the pyramid's convolutions.
    """

    def __init__(
        self,
        backbone: nn.Module,
        return_layers: dict[str, str],
        in_channels_list: list[int],
        out_channels: int,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(backbone, return_layers)
        extra_blocks = LastLevelMaxPool() if extra_blocks is None else extra_blocks
        self.fpn = FeaturePyramidNetwork(in_channels_list, out_channels, extra_blocks, norm_layer)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Levels:
        return self.fpn(self.body(x))


def resnet_fpn_backbone(
    backbone_name: str,
    weights: Weights = None,
    norm_layer: NormLayer = FrozenBatchNorm2d,
    trainable_layers: int = 3,
    returned_layers: Iterable[int] | None = None,
    extra_blocks: ExtraFPNBlock | None = None,
) -> BackboneWithFPN:
    """A ResNet by name with a pyramid of 256 channels (torchvision, models/detection/backbone_utils.py).

    Args:
        backbone_name: "resnet18" ... "resnet152", "resnext50_32x4d" and the like.
        weights: of the ResNet, as its function takes them.
        norm_layer: of the ResNet; the pyramid has none.
        trainable_layers: how many of layer4, layer3, layer2, layer1, conv1 require grad, deepest first; 5: all.
        returned_layers: the stages 1 to 4 that feed the pyramid, finest first; by default all, named "0" to "3".
        extra_blocks: coarser levels; `LastLevelMaxPool` by default.

    Raises:
        ValueError: an unknown name, or layers outside of these ranges.
    """
    if not 0 <= trainable_layers <= 5:
        raise ValueError(f"Trainable layers should be in the range [0,5], got {trainable_layers}")
    stages = [1, 2, 3, 4] if returned_layers is None else list(returned_layers)
    if not stages or not set(stages) <= {1, 2, 3, 4} or stages != sorted(set(stages)):
        raise ValueError(f"Each returned layer should be in the range [1,4], finest first. Got {stages}")
    backbone = get_model(backbone_name, weights=weights, norm_layer=norm_layer)
    if not isinstance(backbone, ResNet):
        raise ValueError(f"resnet_fpn_backbone: {backbone_name} has no layer1 to layer4")
    _freeze(backbone, trainable_layers)
    return_layers = {f"layer{stage}": str(level) for level, stage in enumerate(stages)}
    in_channels_list = [backbone.inplanes // 2 ** (4 - stage) for stage in stages]
    return BackboneWithFPN(backbone, return_layers, in_channels_list, 256, extra_blocks)


def _freeze(backbone: ResNet, trainable_layers: int) -> None:
    """Lets only the deepest stages train; bn1 joins once conv1 does."""
    deepest_first = ("layer4", "layer3", "layer2", "layer1", "conv1")
    trained = deepest_first[:trainable_layers] + (("bn1",) if trainable_layers == 5 else ())
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
