"""A backbone's maps instead of its logits: C2, C3, C4, C5 for whatever is built on top."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable

from tinynet import Tensor, nn
from tinynet.models.resnet import CifarResNet, ResNet

__all__ = ["FeatureMaps", "IntermediateLayerGetter"]


class IntermediateLayerGetter(nn.ModuleDict):
    """A model's children up to the last one wanted; returns the outputs that `return_layers` names.

    ``return_layers={"layer1": "0", "layer4": "3"}`` gives layer1's output as "0" and layer4's as "3", in an
    OrderedDict. The children keep their names, so state_dict keys are the model's own; they are shared with the
    model, not copied. As in torchvision (models/_utils.py), the model must run its children in order.

    Raises:
        ValueError: no layer, or one that the model does not have.
    """

    def __init__(self, model: nn.Module, return_layers: dict[str, str]) -> None:
        children = OrderedDict(model.named_children())
        missing = [name for name in return_layers if name not in children]
        if missing or not return_layers:
            raise ValueError(f"return_layers are not present in model: {missing}; it has {list(children)}")
        names = list(children)
        last = max(names.index(name) for name in return_layers)
        super().__init__(OrderedDict((name, children[name]) for name in names[: last + 1]))
        self.return_layers = {str(name): str(new) for name, new in return_layers.items()}

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        out: OrderedDict[str, Tensor] = OrderedDict()
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                out[self.return_layers[name]] = x
        return out


class FeatureMaps(IntermediateLayerGetter):
    """The stages of a ResNet: images (N, 3, H, W) → OrderedDict of maps, "C2" (finest) to "C5".

    `strides` and `channels` say by level what to expect: map C3 of ResNet-50 is (N, 512, H / 8, W / 8). A size
    that a stride does not divide is rounded up.

    Raises:
        ValueError: a level that the model does not have, or levels that are not finest first.
    """

    def __init__(self, model: ResNet | CifarResNet, levels: Iterable[str] | None = None) -> None:
        stages = [name for name, _ in model.named_children() if name.startswith("layer")]
        layers = {f"C{number}": name for number, name in enumerate(stages, 2)}
        chosen = list(layers if levels is None else levels)
        if not chosen or chosen != [level for level in layers if level in chosen]:
            raise ValueError(f"levels must be some of {list(layers)}, finest first, got {chosen}")
        super().__init__(model, {layers[level]: level for level in chosen})
        self.strides: dict[str, int] = {}
        self.channels: dict[str, int] = {}
        stride = model.conv1.stride[0] * (model.maxpool.stride if isinstance(model, ResNet) else 1)
        for level, name in layers.items():
            stage = getattr(model, name)
            stride *= math.prod(block.stride for block in stage)
            if level in chosen:
                self.strides[level] = stride
                self.channels[level] = _output_channels(stage[-1])


def _output_channels(block: nn.Module) -> int:
    convolutions = [module for module in block.children() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels
