"""RetinaNet: Lin et al. 2017, "Focal Loss for Dense Object Detection" (arXiv 1708.02002).

Names, defaults and state_dict keys are those of torchvision's ``models/detection/retinanet.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tinynet import Tensor, cat, full, int64, nn, zeros_like
from tinynet.detection.anchors import AnchorGenerator
from tinynet.detection.assignment import Matcher
from tinynet.detection.backbone import classes_for, load_detector, overwrite_eps, resnet50_pyramid
from tinynet.detection.box_coder import BoxCoder
from tinynet.detection.boxes import box_iou
from tinynet.detection.heads import (
    PRIOR_PROBABILITY,
    NormLayer,
    convolution,
    convolution_block,
    per_anchor,
    prior_bias,
)
from tinynet.detection.losses import box_loss, sigmoid_focal_loss
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

__all__ = [
    "RetinaNet", "RetinaNetClassificationHead", "RetinaNetHead", "RetinaNetRegressionHead", "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
]  # fmt: skip

# three sizes in each octave, as whole pixels: (32, 40, 50) on P3 to (512, 645, 812) on P7
ANCHOR_SIZES = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
ASPECT_RATIOS = (0.5, 1.0, 2.0)


class RetinaNetHead(nn.Module):
    """Every level (N, in_channels, H, W) in; of all levels together "cls_logits" (N, anchors, num_classes) and
    "bbox_regression" (N, anchors, 4) out. The two heads share nothing.

    Args:
        num_anchors: at each position.
        norm_layer: of the towers, whose convolutions then have no bias.
    """

    def __init__(
        self, in_channels: int, num_anchors: int, num_classes: int, norm_layer: NormLayer | None = None
    ) -> None:
        super().__init__()
        self.classification_head = RetinaNetClassificationHead(
            in_channels, num_anchors, num_classes, norm_layer=norm_layer
        )
        self.regression_head = RetinaNetRegressionHead(in_channels, num_anchors, norm_layer=norm_layer)

    def forward(self, x: Sequence[Tensor]) -> Outputs:
        return {"cls_logits": self.classification_head(x), "bbox_regression": self.regression_head(x)}

    def compute_loss(
        self, targets: Targets, head_outputs: Outputs, anchors: Sequence[Tensor], matched_idxs: Sequence[Tensor]
    ) -> Outputs:
        """The losses "classification" and "bbox_regression", scalars.

        Args:
            anchors: of each image, (anchors, 4).
            matched_idxs: of each image, (anchors,): the box that an anchor is to find, or a `Matcher`'s negative.
        """
        return {
            "classification": self.classification_head.compute_loss(targets, head_outputs, matched_idxs),
            "bbox_regression": self.regression_head.compute_loss(targets, head_outputs, anchors, matched_idxs),
        }


class _TowerHead(nn.Module):
    """A head with four convolutions before its last one: `conv`, whose weights had other names once."""

    _version = 2  # since then each convolution sits in a Sequential of its own: conv.1.0.weight

    def __init__(self, channels: int, norm_layer: NormLayer | None) -> None:
        super().__init__()
        bias = 0.0 if norm_layer is None else None
        self.conv = nn.Sequential(*[nn.Sequential(*convolution_block(channels, norm_layer, bias)) for _ in range(4)])

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        version = local_metadata.get("version")
        if version is None or version < 2:
            _rename_old_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _rename_old_keys(state_dict: dict[str, Any], prefix: str) -> None:
    """``conv.2.weight`` of files from before torchvision 0.12 becomes ``conv.1.0.weight``.

    There the convolutions were numbered with the ReLUs between them.
    """
    for block in range(4):
        for kind in ("weight", "bias"):
            old, new = f"{prefix}conv.{2 * block}.{kind}", f"{prefix}conv.{block}.0.{kind}"
            if old in state_dict and new not in state_dict:
                state_dict[new] = state_dict.pop(old)


class RetinaNetClassificationHead(_TowerHead):
    """Which class is at an anchor: levels (N, in_channels, H, W) to logits (N, anchors, num_classes).

    `prior_probability` is what every class starts with.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        prior_probability: float = PRIOR_PROBABILITY,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__(in_channels, norm_layer)
        self.cls_logits = convolution(in_channels, num_anchors * num_classes, prior_bias(prior_probability))
        self.num_classes = num_classes
        self.num_anchors = num_anchors

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return cat([per_anchor(self.cls_logits(self.conv(level)), self.num_classes) for level in x], dim=1)

    def compute_loss(self, targets: Targets, head_outputs: Outputs, matched_idxs: Sequence[Tensor]) -> Tensor:
        """The focal loss of all anchors that are foreground or background, over the number of those in the
        foreground (at least 1); the mean of the images."""
        losses = []
        for target, logits, matched in zip(targets, head_outputs["cls_logits"], matched_idxs):
            foreground = (matched >= 0).nonzero(as_tuple=True)[0]
            wanted = zeros_like(logits)
            wanted[foreground, target["labels"][matched[foreground]]] = 1.0
            decided = matched != Matcher.BETWEEN_THRESHOLDS
            loss = sigmoid_focal_loss(logits[decided], wanted[decided], reduction="sum")
            losses.append(loss / max(1, len(foreground)))
        return sum(losses[1:], losses[0]) / len(losses)


class RetinaNetRegressionHead(_TowerHead):
    """Where the box is, seen from an anchor: levels (N, in_channels, H, W) to (N, anchors, 4), `BoxCoder`'s codes."""

    def __init__(self, in_channels: int, num_anchors: int, norm_layer: NormLayer | None = None) -> None:
        super().__init__(in_channels, norm_layer)
        self.bbox_reg = convolution(in_channels, num_anchors * 4)
        self.box_coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
        self._loss_type = "l1"

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return cat([per_anchor(self.bbox_reg(self.conv(level)), 4) for level in x], dim=1)

    def compute_loss(
        self, targets: Targets, head_outputs: Outputs, anchors: Sequence[Tensor], matched_idxs: Sequence[Tensor]
    ) -> Tensor:
        """The box loss of the foreground over its number (at least 1); the mean of the images."""
        losses = []
        for target, codes, boxes, matched in zip(targets, head_outputs["bbox_regression"], anchors, matched_idxs):
            foreground = (matched >= 0).nonzero(as_tuple=True)[0]
            wanted = target["boxes"][matched[foreground]]
            loss = box_loss(self._loss_type, self.box_coder, boxes[foreground], wanted, codes[foreground])
            losses.append(loss / max(1, len(foreground)))
        return sum(losses[1:], losses[0]) / len(losses)


class RetinaNet(OneStageDetector):
    """RetinaNet on any backbone with `out_channels`; see `OneStageDetector` for what goes in and comes out.

    The losses are "classification" (focal) and "bbox_regression" (L1 of the codes, or GIoU).

    Args:
        backbone: images (N, 3, H, W) to a map or an OrderedDict of maps.
        num_classes: with the background, class 0.
        min_size, max_size, image_mean, image_std: of `GeneralizedRCNNTransform`, as are the `options`.
        anchor_generator: three sizes and three ratios on each of five levels by default.
        head: `RetinaNetHead` by default.
        proposal_matcher: by default, an anchor with an IoU of `fg_iou_thresh` or more is foreground, below
            `bg_iou_thresh` background, between them neither; the best anchors of each box are always foreground.
        score_thresh, nms_thresh, detections_per_img, topk_candidates: of `postprocess_detections`.

    Raises:
        ValueError: a backbone without `out_channels`. TypeError: another kind of anchor generator.
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
        proposal_matcher: Matcher | None = None,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 300,
        fg_iou_thresh: float = 0.5,
        bg_iou_thresh: float = 0.4,
        topk_candidates: int = 1000,
        **options: Any,
    ) -> None:
        channels = checked_backbone(backbone)
        anchor_generator = checked_anchors(anchor_generator, ANCHOR_SIZES, ASPECT_RATIOS)
        if head is None:
            head = RetinaNetHead(channels, anchor_generator.num_anchors_per_location()[0], num_classes)
        transform = GeneralizedRCNNTransform(
            min_size, max_size, image_mean or IMAGE_MEAN, image_std or IMAGE_STD, **options
        )
        super().__init__(backbone, num_classes, anchor_generator, head, transform,
                         score_thresh, nms_thresh, detections_per_img, topk_candidates)  # fmt: skip
        self.proposal_matcher = proposal_matcher or Matcher(
            fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches=True
        )
        self.box_coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))

    def score(self, outputs: Outputs) -> Tensor:
        return outputs["cls_logits"].sigmoid()

    def decode(self, bbox_regression: Tensor, anchors: Tensor) -> Tensor:
        return self.box_coder.decode_single(bbox_regression, anchors)

    def losses(self, targets: Targets, outputs: Outputs, anchors: list[Tensor], sizes: list[int]) -> Outputs:
        return self.compute_loss(targets, outputs, anchors)

    def compute_loss(self, targets: Targets, head_outputs: Outputs, anchors: Sequence[Tensor]) -> Outputs:
        """Assigns boxes to anchors and asks the head for its losses."""
        matched_idxs = []
        for target, each in zip(targets, anchors):
            if len(target["boxes"]) == 0:
                matched_idxs.append(full((len(each),), Matcher.BELOW_LOW_THRESHOLD, dtype=int64))
            else:
                matched_idxs.append(self.proposal_matcher(box_iou(target["boxes"], each)))
        return self.head.compute_loss(targets, head_outputs, anchors, matched_idxs)


def retinanet_resnet50_fpn(
    *,
    weights: Weights = None,
    num_classes: int | None = None,
    weights_backbone: Weights = "IMAGENET1K_V1",
    trainable_backbone_layers: int | None = None,
    **options: Any,
) -> RetinaNet:
    """RetinaNet on ResNet-50 with levels P3 to P7, P6 from P5; 34,014,999 parameters on frozen batch norms.

    Args:
        weights: of the whole detector: None, the path of a checkpoint, or "COCO_V1" (box AP 36.4). After loading
            COCO_V1 the frozen batch norms have eps 0, as in torchvision.
        num_classes: with the background; 91 by default.
        weights_backbone: of the ResNet, as its function takes them; not used with `weights`.
        trainable_backbone_layers: how many of the ResNet's five stages train, deepest first: 3 by default, and all
            5 where nothing is pretrained.
        options: those of `RetinaNet`.

    Without any weights the ResNet has ordinary batch norms, which learn; else `FrozenBatchNorm2d`.

    Raises:
        ValueError: another number of classes than COCO_V1's 91, or layers outside of 0 to 5.
        CheckpointError, DataError: weights that do not fit, or that could not be downloaded.
    """
    name = "retinanet_resnet50_fpn"
    num_classes = classes_for(name, weights, num_classes)
    backbone = resnet50_pyramid(weights, weights_backbone, trainable_backbone_layers, p6_channels=256)
    model = RetinaNet(backbone, num_classes, **options)
    if load_detector(model, weights, name):
        overwrite_eps(model, 0.0)
    return model


def retinanet_resnet50_fpn_v2(
    *,
    weights: Weights = None,
    num_classes: int | None = None,
    weights_backbone: Weights = None,
    trainable_backbone_layers: int | None = None,
    **options: Any,
) -> RetinaNet:
    """RetinaNet with group norms in its heads, P6 from C5 and the GIoU loss; 38,198,935 parameters.

    The arguments are those of `retinanet_resnet50_fpn`; "COCO_V1" has a box AP of 41.5. The ResNet always has
    ordinary batch norms.
    """
    name = "retinanet_resnet50_fpn_v2"
    num_classes = classes_for(name, weights, num_classes)
    backbone = resnet50_pyramid(weights, weights_backbone, trainable_backbone_layers, 2048, freeze_norms=False)
    head = RetinaNetHead(
        backbone.out_channels, len(ANCHOR_SIZES[0]) * len(ASPECT_RATIOS), num_classes, partial(nn.GroupNorm, 32)
    )
    head.regression_head._loss_type = "giou"
    model = RetinaNet(backbone, num_classes, head=head, **options)
    load_detector(model, weights, name)
    return model
