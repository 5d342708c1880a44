"""ResNet-50 with a pyramid for the detectors, their weights, and what of it is trained.

Source: torchvision's ``models/detection/backbone_utils.py`` and the builders beside it.
"""

from __future__ import annotations

import warnings

from tinynet import nn
from tinynet.checkpoint import find_weights, load_weights
from tinynet.checkpoint.published import PUBLISHED, is_published_name
from tinynet.models.fpn import BackboneWithFPN, LastLevelP6P7, resnet_fpn_backbone
from tinynet.models.frozen_batch_norm import FrozenBatchNorm2d
from tinynet.models.resnet import Weights

__all__ = ["overwrite_eps", "resnet50_pyramid"]

COCO_CLASSES = 91  # numbers of categories go up to 90, and 0 is the background
STAGES = 5  # conv1 with bn1, layer1, ..., layer4


def resnet50_pyramid(
    weights: Weights,
    weights_backbone: Weights,
    trainable_backbone_layers: int | None,
    p6_channels: int,
    freeze_norms: bool = True,
) -> BackboneWithFPN:
    """ResNet-50 with P3 to P7, 256 channels each, its weights loaded unless `weights` of all will be.

    Args:
        p6_channels: 256 if P6 reads P5, 2048 if it reads C5.
        freeze_norms: take `FrozenBatchNorm2d` where anything is pretrained, as these statistics are not to move.

    Raises:
        ValueError: `trainable_backbone_layers` outside of 0 to 5.
    """
    pretrained = weights is not None or weights_backbone is not None
    return resnet_fpn_backbone(
        "resnet50",
        weights=weights_backbone if weights is None else None,
        norm_layer=FrozenBatchNorm2d if pretrained and freeze_norms else nn.BatchNorm2d,
        trainable_layers=trainable_layers(pretrained, trainable_backbone_layers),
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(p6_channels, 256),
    )


def trainable_layers(pretrained: bool, wanted: int | None) -> int:
    """How many stages train: 3 of a pretrained backbone unless the user wants another number, all of a new one."""
    if not pretrained:
        if wanted is not None:
            warnings.warn(
                f"trainable_backbone_layers={wanted} has no effect without pretrained weights: all {STAGES} train",
                stacklevel=4,
            )
        return STAGES
    layers = 3 if wanted is None else wanted
    if not 0 <= layers <= STAGES:
        raise ValueError(f"trainable_backbone_layers should be in the range [0,{STAGES}], got {layers}")
    return layers


def classes_for(architecture: str, weights: Weights, num_classes: int | None) -> int:
    """The number of classes to build. Raises ValueError, before any download, if published weights have others."""
    if weights is not None and is_published_name(weights) and num_classes not in (None, COCO_CLASSES):
        raise ValueError(
            f"{architecture}: the weights {weights} are for num_classes={COCO_CLASSES}, got {num_classes}; load them "
            "as they are and replace the head, or start from weights_backbone"
        )
    return COCO_CLASSES if num_classes is None else num_classes


def load_detector(model: nn.Module, weights: Weights, architecture: str) -> bool:
    """Loads `weights`, if any; whether they were those that torchvision publishes."""
    if weights is None:
        return False
    path = find_weights(weights, architecture)
    load_weights(model, path, architecture)
    return path.name in PUBLISHED


def overwrite_eps(model: nn.Module, eps: float) -> None:
    """Sets eps of every frozen batch norm; torchvision's first RetinaNet was trained with 0."""
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = eps
