"""Which ResNet a file of weights belongs to, read from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinynet import Tensor, nn
from tinynet.errors import CheckpointError
from tinynet.models.fpn import FeaturePyramidNetwork
from tinynet.models.resnet import BasicBlock, Bottleneck, ResNet

LANDMARK = "layer1.0.conv1.weight"
PARTS = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.", "fc.")
NAMES: dict[tuple[type, tuple[int, ...]], str] = {
    (BasicBlock, (2, 2, 2, 2)): "ResNet-18", (BasicBlock, (3, 4, 6, 3)): "ResNet-34",
    (Bottleneck, (3, 4, 6, 3)): "ResNet-50", (Bottleneck, (3, 4, 23, 3)): "ResNet-101",
    (Bottleneck, (3, 8, 36, 3)): "ResNet-152",
}  # fmt: skip


@dataclass
class Loaded:
    """A backbone in evaluation mode with the weights of a file, and its pyramid if the file has one.

    `levels` are the stages that feed the pyramid, such as ("C3", "C4", "C5"). `classes` is None where the file
    has no last linear layer.
    """

    name: str
    backbone: ResNet
    classes: int | None
    pyramid: FeaturePyramidNetwork | None
    levels: tuple[str, ...]


def load_resnet(state: Mapping[str, Any], source: str) -> Loaded:
    """Builds the ResNet that `state` (a state_dict) was saved from, and loads it.

    The ResNet may be all of it or a part: ``backbone.body.layer1...`` of a detector, ``module.`` of parallel
    training. `source` is for messages. Raises CheckpointError if there is none, or it does not fit.
    """
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    prefixes = [name.removesuffix(LANDMARK) for name in tensors if name.endswith(LANDMARK)]
    if len(prefixes) != 1:
        found = ", ".join(list(tensors)[:3])
        raise CheckpointError(
            f"{source} holds no ImageNet ResNet: expected one tensor named {LANDMARK}, found {len(prefixes)} "
            f"among {len(tensors)} tensors ({found}, ...)"
        )
    body = {name.removeprefix(prefixes[0]): value for name, value in tensors.items() if name.startswith(prefixes[0])}
    backbone, name = _backbone({k: v for k, v in body.items() if k.startswith(PARTS)}, source)
    pyramid, levels = _pyramid(tensors, backbone, source)
    classes = body["fc.weight"].shape[0] if "fc.weight" in body else None
    return Loaded(name, backbone.eval(), classes, pyramid, levels)


def _backbone(body: dict[str, Tensor], source: str) -> tuple[ResNet, str]:
    counts = [1 + max((int(i) for i in _indices(body, rf"layer{stage}\.(\d+)\.")), default=-1) for stage in range(1, 5)]
    stem = tuple(body["conv1.weight"].shape) if "conv1.weight" in body else ()
    if min(counts) < 1 or stem[1:] != (3, 7, 7):
        raise CheckpointError(
            f"{source} holds no ImageNet ResNet: expected blocks in layer1 to layer4 and conv1.weight of shape "
            f"(64, 3, 7, 7), found {counts} blocks and {stem or 'no conv1.weight'}"
        )
    block = Bottleneck if "layer1.0.conv3.weight" in body else BasicBlock
    width, per_group = (body["layer1.0.conv2.weight"].shape[:2]) if block is Bottleneck else (64, 64)
    groups = max(1, width // max(1, per_group))
    classes = body["fc.weight"].shape[0] if "fc.weight" in body else 1
    model = ResNet(block, counts, num_classes=classes, groups=groups, width_per_group=width // groups)
    name = NAMES.get((block, tuple(counts)), f"a ResNet of {counts} blocks")
    if (groups, width) != (1, 64):
        name += f" with {groups} group{'s' if groups > 1 else ''} of width {width // groups}"
    if "fc.weight" not in body:
        model.register_module("fc", nn.Identity())
    _load(model, body, source)
    return model, name


def _pyramid(
    tensors: dict[str, Tensor], backbone: ResNet, source: str
) -> tuple[FeaturePyramidNetwork | None, tuple[str, ...]]:
    names = [name for name in tensors if re.search(r"(^|\.)inner_blocks\.0\.(0\.)?weight$", name)]
    if len(names) != 1:
        return None, ()
    prefix = names[0].partition("inner_blocks.")[0]
    entries = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith((f"{prefix}inner_blocks.", f"{prefix}layer_blocks."))
    }
    count = 1 + max(int(i) for i in _indices(entries, r"inner_blocks\.(\d+)\."))
    either = [(f"inner_blocks.{level}.0.weight", f"inner_blocks.{level}.weight") for level in range(count)]
    laterals = [entries[key] for keys in either for key in keys if key in entries and entries[key].ndim == 4]
    if len(laterals) != count:
        raise CheckpointError(f"{source}: the pyramid's inner_blocks.0 to .{count - 1} are not all convolutions")
    norm = nn.BatchNorm2d if "inner_blocks.0.1.weight" in entries else None
    channels = [lateral.shape[1] for lateral in laterals]
    pyramid = FeaturePyramidNetwork(channels, laterals[0].shape[0], norm_layer=norm)
    _load(pyramid, entries, "the feature pyramid")
    stages = stage_channels(backbone)
    return pyramid.eval(), tuple(level for level, c in stages.items() if c in channels)


def stage_channels(backbone: ResNet) -> dict[str, int]:
    """Channels of C2 to C5."""
    return {f"C{stage + 1}": backbone.inplanes // 2 ** (4 - stage) for stage in range(1, 5)}


def _load(model: nn.Module, entries: dict[str, Tensor], source: str) -> None:
    try:
        model.load_state_dict(entries)
    except CheckpointError as error:
        raise CheckpointError(f"{source} does not fit {type(model).__name__}: {error}") from None


def _indices(names: Mapping[str, Any], pattern: str) -> set[str]:
    return {found[1] for name in names if (found := re.match(pattern, name))}
