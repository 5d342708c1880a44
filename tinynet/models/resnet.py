"""Residual networks: He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385).

`ResNet` is the ImageNet family with torchvision's structure and state_dict keys; `CifarResNet` is the
family of section 4.2 for small images. Both are stacks of the two blocks of figure 5: `BasicBlock` for
the shallow nets, `Bottleneck` for the deep ones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from tinynet import Tensor, flatten, nn
from tinynet.nn import functional as F

__all__ = [
    "BasicBlock", "Bottleneck", "CifarResNet", "ResNet", "ZeroPadShortcut",
    "cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110",
    "plain_resnet18", "plain_resnet34",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
]  # fmt: skip

NormLayer = Callable[..., nn.Module]
Weights = str | os.PathLike[str] | None


def conv3x3(in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps height and width at stride 1; batch norm follows, so it has no bias."""
    return nn.Conv2d(in_planes, out_planes, kernel_size=3, stride=stride, padding=dilation,
                     groups=groups, bias=False, dilation=dilation)  # fmt: skip


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    """A 1×1 convolution: a linear map of the channels, the same at every position."""
    return nn.Conv2d(in_planes, out_planes, kernel_size=1, stride=stride, bias=False)


class ZeroPadShortcut(nn.Module):
    """Option A of section 3.3: keep every `stride`-th position and pad the new channels with zeros.

    (N, C, H, W) → (N, out_channels, ceil(H / stride), ceil(W / stride)); it has no parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(f"a zero-padding shortcut cannot reduce {in_channels} channels to {out_channels}")
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 1, self.stride)  # windows of one pixel: keeps every stride-th
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (figure 5, left); the stride is in the first one.

    (N, inplanes, H, W) → (N, planes, H / stride, W / stride). `downsample` maps the input onto the
    output's shape where the two differ. `residual=False` gives the plain block: no shortcut at all.
    """

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: NormLayer | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        norm_layer = _norm(norm_layer)
        if groups != 1 or base_width != 64:
            raise ValueError("BasicBlock only supports groups=1 and base_width=64")
        if dilation > 1:
            raise NotImplementedError("Dilation > 1 not supported in BasicBlock")
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample
        self.stride = stride
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.residual:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class Bottleneck(nn.Module):
    """1×1 reduces the channels, 3×3 works on few of them, 1×1 restores four times as many (figure 5, right).

    (N, inplanes, H, W) → (N, 4·planes, H / stride, W / stride). The stride is in the 3×3 convolution, as in
    torchvision ("v1.5"); `stride_in_1x1=True` puts it in the first 1×1, as in the paper and in Caffe's
    weights. `residual=False` gives the plain block.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: NormLayer | None = None,
        residual: bool = True,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        norm_layer = _norm(norm_layer)
        width = int(planes * (base_width / 64.0)) * groups
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = conv1x1(inplanes, width, stride_1x1)
        self.bn1 = norm_layer(width)
        self.conv2 = conv3x3(width, width, stride_3x3, groups, dilation)
        self.bn2 = norm_layer(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = norm_layer(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.residual:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


Block = type[BasicBlock] | type[Bottleneck]


def _shortcut(option: str, in_channels: int, out_channels: int, stride: int, norm_layer: NormLayer) -> nn.Module | None:
    """The module on the skip connection, or None where the input itself fits (section 3.3).

    A: zero padding; B: a projection where the shape changes; C: a projection everywhere; "none": plain nets.
    """
    if option not in ("A", "B", "C", "none"):
        raise ValueError(f"shortcut must be 'A', 'B', 'C' or 'none', got {option!r}")
    same_shape = stride == 1 and in_channels == out_channels
    if option == "none" or (same_shape and option != "C"):
        return None
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), norm_layer(out_channels))


def _group_norm(channels: int) -> nn.GroupNorm:
    """32 groups (Wu and He 2018, arXiv 1803.08494), or as many as divide fewer channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def _norm(norm_layer: NormLayer | None) -> NormLayer:
    """The function of the channels that builds a norm; `nn.GroupNorm` itself needs a number of groups."""
    if norm_layer is nn.GroupNorm:
        return _group_norm
    return norm_layer or nn.BatchNorm2d


def _make_stage(
    block: Block,
    in_channels: int,
    planes: int,
    blocks: int,
    stride: int,
    norm_layer: NormLayer,
    shortcut: str,
    dilations: tuple[int, int] = (1, 1),
    **options: Any,
) -> nn.Sequential:
    """`blocks` blocks, the first with the stride; `dilations` are the first block's and the others'.

    `options` go to every block: `groups`, `base_width`, `stride_in_1x1`.
    """
    if shortcut == "none":
        options["residual"] = False
    out_channels = planes * block.expansion
    stage = []
    for index in range(blocks):
        step, dilation = (stride, dilations[0]) if index == 0 else (1, dilations[1])
        downsample = _shortcut(shortcut, in_channels, out_channels, step, norm_layer)
        stage.append(block(in_channels, planes, step, downsample, dilation=dilation, norm_layer=norm_layer, **options))
        in_channels = out_channels
    return nn.Sequential(*stage)


def _initialise(model: nn.Module, zero_init_residual: bool) -> None:
    """He's normal initialisation of the convolutions; norms start as the identity.

    With `zero_init_residual` the last norm of every block starts at 0, so that each block starts as its
    shortcut (Goyal et al. 2017, arXiv 1706.02677).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.constant_(module.weight, 1)
            nn.init.constant_(module.bias, 0)
    if not zero_init_residual:
        return
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, 0)
        elif isinstance(module, BasicBlock):
            nn.init.constant_(module.bn2.weight, 0)


class ResNet(nn.Module):
    """The ImageNet family of table 1: (N, 3, H, W) images → (N, num_classes) logits.

    Five stages, as in torchvision's class of the same name: conv1 (7×7, stride 2, then max pool), then
    `layer1` to `layer4` with 64, 128, 256, 512 planes; `layers` counts the blocks of each.
    `replace_stride_with_dilation` keeps the resolution of `layer2` to `layer4` and dilates the 3×3 instead.
    The arguments up to `norm_layer` are torchvision's.

    Args:
        norm_layer: builds a norm from its channels: `nn.BatchNorm2d`, `FrozenBatchNorm2d`, any function;
            `nn.GroupNorm` means 32 groups.
        shortcut: option "A", "B" (torchvision's) or "C" of section 3.3, or "none" for the plain nets.
        stride_in_1x1: put a bottleneck's stride into its first 1×1, as in the paper and in Caffe's weights.
        pool_padding, pool_ceil_mode: of the stem's max pool; Caffe's weights need 0 and True.

    Raises:
        ValueError: an unknown shortcut, or `stride_in_1x1` for blocks without a 1×1.
    """

    def __init__(
        self,
        block: Block,
        layers: list[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: list[bool] | None = None,
        norm_layer: NormLayer | None = None,
        shortcut: str = "B",
        stride_in_1x1: bool = False,
        pool_padding: int = 1,
        pool_ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        dilate = replace_stride_with_dilation or [False, False, False]
        if len(dilate) != 3:
            raise ValueError(
                f"replace_stride_with_dilation should be None or a 3-element tuple, got {replace_stride_with_dilation}"
            )
        if stride_in_1x1 and block is BasicBlock:
            raise ValueError("stride_in_1x1 is for Bottleneck: a BasicBlock has no 1×1 convolution")
        self._norm_layer = _norm(norm_layer)
        self.inplanes = 64
        self.dilation = 1
        self.groups = groups
        self.base_width = width_per_group
        self.shortcut = shortcut
        self.stride_in_1x1 = stride_in_1x1
        self.conv1 = nn.Conv2d(3, self.inplanes, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = self._norm_layer(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=pool_padding, ceil_mode=pool_ceil_mode)
        self.layer1 = self._make_layer(block, 64, layers[0])
        self.layer2 = self._make_layer(block, 128, layers[1], stride=2, dilate=dilate[0])
        self.layer3 = self._make_layer(block, 256, layers[2], stride=2, dilate=dilate[1])
        self.layer4 = self._make_layer(block, 512, layers[3], stride=2, dilate=dilate[2])
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        _initialise(self, zero_init_residual)

    def _make_layer(
        self, block: Block, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        first_dilation = self.dilation
        if dilate:
            self.dilation *= stride
            stride = 1
        options: dict[str, Any] = {"groups": self.groups, "base_width": self.base_width}
        if self.stride_in_1x1:
            options["stride_in_1x1"] = True
        stage = _make_stage(block, self.inplanes, planes, blocks, stride, self._norm_layer, self.shortcut,
                            (first_dilation, self.dilation), **options)  # fmt: skip
        self.inplanes = planes * block.expansion
        return stage

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flatten(self.avgpool(x), 1))


class CifarResNet(nn.Module):
    """The family of section 4.2 for small images: (N, in_channels, H, W) → (N, num_classes) logits.

    A 3×3 convolution, three stages of `width`, 2·`width`, 4·`width` planes (stride 2 before the second and
    third), global average pooling and a linear layer. `depth` counts the layers with weights on the longest
    path: 6n + 2 for `BasicBlock`, 9n + 2 for `Bottleneck`, n blocks a stage.

    Args:
        depth: 20, 32, 44, 56 or 110 in the paper.
        block: `BasicBlock` (the paper's) or `Bottleneck`, whose stages give 4 times the planes.
        shortcut: "A" (zero padding, the paper's), "B" or "C" (projections), or "none" for the plain nets.
        zero_init_residual: let every block start as its shortcut.
        norm_layer: as of `ResNet`.

    Raises:
        ValueError: a depth that no whole number of blocks gives, or an unknown shortcut.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        block: Block = BasicBlock,
        width: int = 16,
        in_channels: int = 3,
        shortcut: str = "A",
        zero_init_residual: bool = False,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__()
        layers_per_block = 2 if block.expansion == 1 else 3
        blocks, remainder = divmod(depth - 2, 3 * layers_per_block)
        if blocks < 1 or remainder:
            raise ValueError(f"depth must be {3 * layers_per_block}n + 2 for {block.__name__}, got {depth}")
        self._norm_layer = _norm(norm_layer)
        self.shortcut = shortcut
        self.inplanes = width
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = self._norm_layer(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(block, width, blocks, stride=1)
        self.layer2 = self._make_layer(block, 2 * width, blocks, stride=2)
        self.layer3 = self._make_layer(block, 4 * width, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(self.inplanes, num_classes)
        _initialise(self, zero_init_residual)

    def _make_layer(self, block: Block, planes: int, blocks: int, stride: int) -> nn.Sequential:
        stage = _make_stage(block, self.inplanes, planes, blocks, stride, self._norm_layer, self.shortcut)
        self.inplanes = planes * block.expansion
        return stage

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(flatten(self.avgpool(x), 1))


def _load(model: nn.Module, weights: Weights, architecture: str) -> None:
    if weights is not None:
        from tinynet.checkpoint import load_weights  # late: a model without weights reads no files

        load_weights(model, weights, architecture=architecture)


def _resnet(name: str, block: Block, layers: list[int], weights: Weights, **options: Any) -> ResNet:
    model = ResNet(block, layers, **options)
    _load(model, weights, name)
    return model


def _cifar_resnet(depth: int, weights: Weights, **options: Any) -> CifarResNet:
    model = CifarResNet(depth, **options)
    _load(model, weights, f"cifar_resnet{depth}")
    return model


# Every function below takes the options of its class and `weights`: None (drawn anew), the path of a checkpoint,
# or the name of weights that torchvision publishes, such as "IMAGENET1K_V2".


def resnet18(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-18: basic blocks 2, 2, 2, 2; 11,689,512 parameters. `options` are those of `ResNet`."""
    return _resnet("resnet18", BasicBlock, [2, 2, 2, 2], weights, **options)


def resnet34(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-34: basic blocks 3, 4, 6, 3; 21,797,672 parameters. `options` are those of `ResNet`."""
    return _resnet("resnet34", BasicBlock, [3, 4, 6, 3], weights, **options)


def resnet50(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-50: bottlenecks 3, 4, 6, 3; 25,557,032 parameters. `options` are those of `ResNet`."""
    return _resnet("resnet50", Bottleneck, [3, 4, 6, 3], weights, **options)


def resnet101(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-101: bottlenecks 3, 4, 23, 3; 44,549,160 parameters. `options` are those of `ResNet`."""
    return _resnet("resnet101", Bottleneck, [3, 4, 23, 3], weights, **options)


def resnet152(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-152: bottlenecks 3, 8, 36, 3; 60,192,808 parameters. `options` are those of `ResNet`."""
    return _resnet("resnet152", Bottleneck, [3, 8, 36, 3], weights, **options)


def resnext50_32x4d(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNeXt-50: 32 groups of 4 channels (Xie et al. 2016, arXiv 1611.05431); 25,028,904 parameters."""
    return _resnet("resnext50_32x4d", Bottleneck, [3, 4, 6, 3], weights, groups=32, width_per_group=4, **options)


def resnext101_32x8d(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNeXt-101 with 32 groups of 8 channels; 88,791,336 parameters."""
    return _resnet("resnext101_32x8d", Bottleneck, [3, 4, 23, 3], weights, groups=32, width_per_group=8, **options)


def resnext101_64x4d(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNeXt-101 with 64 groups of 4 channels; 83,455,272 parameters."""
    return _resnet("resnext101_64x4d", Bottleneck, [3, 4, 23, 3], weights, groups=64, width_per_group=4, **options)


def wide_resnet50_2(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-50, its 3×3 twice as wide (Zagoruyko and Komodakis 2016, arXiv 1605.07146); 68,883,240 parameters."""
    return _resnet("wide_resnet50_2", Bottleneck, [3, 4, 6, 3], weights, width_per_group=128, **options)


def wide_resnet101_2(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-101, its 3×3 twice as wide; 126,886,696 parameters."""
    return _resnet("wide_resnet101_2", Bottleneck, [3, 4, 23, 3], weights, width_per_group=128, **options)


def plain_resnet18(**options: Any) -> ResNet:
    """The paper's plain 18-layer net: `resnet18` without its shortcuts."""
    return resnet18(shortcut="none", **options)


def plain_resnet34(**options: Any) -> ResNet:
    """The paper's plain 34-layer net: `resnet34` without its shortcuts."""
    return resnet34(shortcut="none", **options)


def cifar_resnet20(*, weights: Weights = None, **options: Any) -> CifarResNet:
    """ResNet-20 of section 4.2; 269,722 parameters on three channels. `options` are those of `CifarResNet`."""
    return _cifar_resnet(20, weights, **options)


def cifar_resnet32(*, weights: Weights = None, **options: Any) -> CifarResNet:
    """ResNet-32 of section 4.2; 464,154 parameters on three channels. `options` are those of `CifarResNet`."""
    return _cifar_resnet(32, weights, **options)


def cifar_resnet44(*, weights: Weights = None, **options: Any) -> CifarResNet:
    """ResNet-44 of section 4.2; 658,586 parameters on three channels. `options` are those of `CifarResNet`."""
    return _cifar_resnet(44, weights, **options)


def cifar_resnet56(*, weights: Weights = None, **options: Any) -> CifarResNet:
    """ResNet-56 of section 4.2; 853,018 parameters on three channels. `options` are those of `CifarResNet`."""
    return _cifar_resnet(56, weights, **options)


def cifar_resnet110(*, weights: Weights = None, **options: Any) -> CifarResNet:
    """ResNet-110 of section 4.2; 1,727,962 parameters on three channels. `options` are those of `CifarResNet`."""
    return _cifar_resnet(110, weights, **options)
