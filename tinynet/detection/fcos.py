"""FCOS: Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection" (arXiv 1904.01355, 2006.09214).

Names, defaults and state_dict keys are those of torchvision's ``models/detection/fcos.py``. There are no anchors to
tune: the one "anchor" at each position is a square of the level's stride, and its centre is the paper's point.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tinynet import Tensor, cat, nn, stack, zeros_like
from tinynet.detection.anchors import AnchorGenerator
from tinynet.detection.assignment import match_fcos
from tinynet.detection.backbone import classes_for, load_detector, resnet50_pyramid
from tinynet.detection.box_coder import BoxLinearCoder
from tinynet.detection.heads import (
    PRIOR_PROBABILITY,
    NormLayer,
    convolution,
    convolution_block,
    per_anchor,
    prior_bias,
)
from tinynet.detection.losses import generalized_box_iou_loss, sigmoid_focal_loss
from tinynet.detection.one_stage import (
    IMAGE_MEAN,
    IMAGE_STD,
    OneStageDetector,
    Outputs,
    checked_anchors,
    checked_backbone,
)
from tinynet.detection.transform import GeneralizedRCNNTransform, Targets
from tinynet.models.resnet import Weights
from tinynet.nn import functional as F

__all__ = ["FCOS", "FCOSClassificationHead", "FCOSHead", "FCOSRegressionHead", "fcos_resnet50_fpn"]

STRIDES = ((8,), (16,), (32,), (64,), (128,))  # of P3 to P7


class FCOSHead(nn.Module):
    """Every level (N, in_channels, H, W) in; of all levels together "cls_logits" (N, points, num_classes),
    "bbox_regression" (N, points, 4) and "bbox_ctrness" (N, points, 1) out.

    Args:
        num_anchors: at each position; 1 for FCOS.
        num_convs: convolutions of each tower.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, num_convs: int = 4) -> None:
        super().__init__()
        self.box_coder = BoxLinearCoder(normalize_by_size=True)
        self.classification_head = FCOSClassificationHead(in_channels, num_anchors, num_classes, num_convs)
        self.regression_head = FCOSRegressionHead(in_channels, num_anchors, num_convs)

    def forward(self, x: Sequence[Tensor]) -> Outputs:
        bbox_regression, bbox_ctrness = self.regression_head(x)
        return {
            "cls_logits": self.classification_head(x),
            "bbox_regression": bbox_regression,
            "bbox_ctrness": bbox_ctrness,
        }

    def compute_loss(
        self, targets: Targets, head_outputs: Outputs, anchors: Sequence[Tensor], matched_idxs: Sequence[Tensor]
    ) -> Outputs:
        """The losses "classification" (focal), "bbox_regression" (GIoU) and "bbox_ctrness", summed over the batch and
        divided by its foreground (at least 1).

        Args:
            anchors: of each image, (points, 4).
            matched_idxs: of each image, (points,): the box that a point is to find, or -1.
        """
        cls_logits = head_outputs["cls_logits"]
        image, point = (stack(list(matched_idxs)) >= 0).nonzero(as_tuple=True)
        claimed = [matched[matched >= 0] for matched in matched_idxs]
        labels = cat([target["labels"][chosen] for target, chosen in zip(targets, claimed)])
        boxes = cat([target["boxes"][chosen] for target, chosen in zip(targets, claimed)])
        squares = stack(list(anchors))[image, point]

        wanted = zeros_like(cls_logits)
        wanted[image, point, labels] = 1.0
        predicted = self.box_coder.decode(head_outputs["bbox_regression"][image, point], squares)
        centreness = _centreness(self.box_coder.encode(squares, boxes))
        foreground = max(1, len(labels))
        return {
            "classification": sigmoid_focal_loss(cls_logits, wanted, reduction="sum") / foreground,
            "bbox_regression": generalized_box_iou_loss(predicted, boxes, reduction="sum") / foreground,
            "bbox_ctrness": F.binary_cross_entropy_with_logits(
                head_outputs["bbox_ctrness"][image, point, 0], centreness, reduction="sum"
            ) / foreground,
        }  # fmt: skip


def _centreness(distances: Tensor) -> Tensor:
    """(F,) from 1 in a box's centre to 0 on its border, from the distances (F, 4) to its sides (equation 3)."""
    left, top, right, bottom = distances.unbind(1)
    across = left.minimum(right) / left.maximum(right)
    down = top.minimum(bottom) / top.maximum(bottom)
    return (across * down).sqrt()


class _FCOSTower(nn.Module):
    """`num_convs` 3×3 convolutions, each with its norm and ReLU, one after the other in `conv`."""

    def __init__(self, channels: int, num_convs: int, norm_layer: NormLayer | None) -> None:
        super().__init__()
        norm_layer = norm_layer or partial(nn.GroupNorm, 32)
        blocks = [convolution_block(channels, norm_layer) for _ in range(num_convs)]
        self.conv = nn.Sequential(*[layer for block in blocks for layer in block])


class FCOSClassificationHead(_FCOSTower):
    """Which class is at a point: levels (N, in_channels, H, W) to logits (N, points, num_classes).

    `prior_probability` is what every class starts with; `norm_layer` is 32 groups by default.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        num_convs: int = 4,
        prior_probability: float = PRIOR_PROBABILITY,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__(in_channels, num_convs, norm_layer)
        self.num_classes = num_classes
        self.num_anchors = num_anchors
        self.cls_logits = convolution(in_channels, num_anchors * num_classes, prior_bias(prior_probability))

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return cat([per_anchor(self.cls_logits(self.conv(level)), self.num_classes) for level in x], dim=1)


class FCOSRegressionHead(_FCOSTower):
    """Where the box's sides are, seen from a point, and how central the point is in it.

    Levels (N, in_channels, H, W) to distances left, top, right, bottom (N, points, 4), not negative and in strides,
    and to logits of centreness (N, points, 1).
    """

    def __init__(
        self, in_channels: int, num_anchors: int, num_convs: int = 4, norm_layer: NormLayer | None = None
    ) -> None:
        super().__init__(in_channels, num_convs, norm_layer)
        self.bbox_reg = convolution(in_channels, num_anchors * 4)
        self.bbox_ctrness = convolution(in_channels, num_anchors)

    def forward(self, x: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        distances, centreness = [], []
        for level in x:
            features = self.conv(level)
            distances.append(per_anchor(F.relu(self.bbox_reg(features)), 4))
            centreness.append(per_anchor(self.bbox_ctrness(features), 1))
        return cat(distances, dim=1), cat(centreness, dim=1)


class FCOS(OneStageDetector):
    """FCOS on any backbone with `out_channels`; see `OneStageDetector` for what goes in and comes out.

    A score is sqrt(probability of the class · centreness). The losses are "classification" (focal),
    "bbox_regression" (GIoU) and "bbox_ctrness".

    Args:
        backbone: images (N, 3, H, W) to a map or an OrderedDict of maps.
        num_classes: with the background, class 0.
        min_size, max_size, image_mean, image_std: of `GeneralizedRCNNTransform`, as are the `options`.
        anchor_generator: one square of the level's stride at each position by default.
        head: `FCOSHead` by default.
        center_sampling_radius: of `match_fcos`, in strides.
        score_thresh, nms_thresh, detections_per_img, topk_candidates: of `postprocess_detections`.

    Raises:
        ValueError: a backbone without `out_channels`, or more than one anchor at a position. TypeError: another kind
            of anchor generator.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        min_size: int | Sequence[int] = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        anchor_generator: AnchorGenerator | None = None,
        head: nn.Module | None = None,
        center_sampling_radius: float = 1.5,
        score_thresh: float = 0.2,
        nms_thresh: float = 0.6,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        **options: Any,
    ) -> None:
        channels = checked_backbone(backbone)
        anchor_generator = checked_anchors(anchor_generator, STRIDES, (1.0,))
        per_position = anchor_generator.num_anchors_per_location()
        if set(per_position) != {1}:
            raise ValueError(f"FCOS has one anchor at each position, the anchor_generator makes {per_position}")
        if head is None:
            head = FCOSHead(channels, 1, num_classes)
        transform = GeneralizedRCNNTransform(
            min_size, max_size, image_mean or IMAGE_MEAN, image_std or IMAGE_STD, **options
        )
        super().__init__(backbone, num_classes, anchor_generator, head, transform,
                         score_thresh, nms_thresh, detections_per_img, topk_candidates)  # fmt: skip
        self.box_coder = BoxLinearCoder(normalize_by_size=True)
        self.center_sampling_radius = center_sampling_radius

    def score(self, outputs: Outputs) -> Tensor:
        return (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()

    def decode(self, bbox_regression: Tensor, anchors: Tensor) -> Tensor:
        return self.box_coder.decode(bbox_regression, anchors)

    def losses(self, targets: Targets, outputs: Outputs, anchors: list[Tensor], sizes: list[int]) -> Outputs:
        return self.compute_loss(targets, outputs, anchors, sizes)

    def compute_loss(
        self,
        targets: Targets,
        head_outputs: Outputs,
        anchors: Sequence[Tensor],
        num_anchors_per_level: Sequence[int],
    ) -> Outputs:
        """Assigns boxes to points and asks the head for its losses."""
        matched_idxs = [
            match_fcos(each, target["boxes"], num_anchors_per_level, self.center_sampling_radius)
            for target, each in zip(targets, anchors)
        ]
        return self.head.compute_loss(targets, head_outputs, anchors, matched_idxs)


def fcos_resnet50_fpn(
    *,
    weights: Weights = None,
    num_classes: int | None = None,
    weights_backbone: Weights = "IMAGENET1K_V1",
    trainable_backbone_layers: int | None = None,
    **options: Any,
) -> FCOS:
    """FCOS on ResNet-50 with levels P3 to P7, P6 from P5; 32,269,600 parameters on frozen batch norms.

    The arguments are those of `retinanet_resnet50_fpn`, the `options` those of `FCOS`; "COCO_V1" has a box AP of
    39.2, and its frozen batch norms keep eps 1e-5.
    """
    name = "fcos_resnet50_fpn"
    num_classes = classes_for(name, weights, num_classes)
    backbone = resnet50_pyramid(weights, weights_backbone, trainable_backbone_layers, p6_channels=256)
    model = FCOS(backbone, num_classes, **options)
    load_detector(model, weights, name)
    return model
