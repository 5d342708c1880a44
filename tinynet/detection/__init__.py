"""Finding objects: boxes, anchors, assignment, losses, average precision, and detectors made of them.

The parts have torchvision's names and meaning (torchvision.ops, torchvision.models.detection).
"""

from __future__ import annotations

from tinynet.detection.anchors import AnchorGenerator, anchor_points
from tinynet.detection.assignment import Matcher, assign_batch, assign_levels, assign_points, match_fcos
from tinynet.detection.average_precision import AveragePrecision, average_precision
from tinynet.detection.backbone import overwrite_eps
from tinynet.detection.box_coder import BoxCoder, BoxLinearCoder
from tinynet.detection.boxes import (
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    generalized_box_iou,
    remove_small_boxes,
    require_boxes,
    require_ordered,
)
from tinynet.detection.designs import DESIGNS, build_detector
from tinynet.detection.fcos import (
    FCOS,
    FCOSClassificationHead,
    FCOSHead,
    FCOSRegressionHead,
    fcos_resnet50_fpn,
)
from tinynet.detection.image_list import ImageList
from tinynet.detection.losses import box_loss, generalized_box_iou_loss, sigmoid_focal_loss
from tinynet.detection.pyramid_detector import PyramidDetector, SmallResNet
from tinynet.detection.retinanet import (
    RetinaNet,
    RetinaNetClassificationHead,
    RetinaNetHead,
    RetinaNetRegressionHead,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)
from tinynet.detection.roi_align import RoIAlign, roi_align
from tinynet.detection.suppression import batched_nms, nms
from tinynet.detection.transform import GeneralizedRCNNTransform

__all__ = [
    "DESIGNS",
    "FCOS",
    "AnchorGenerator",
    "AveragePrecision",
    "BoxCoder",
    "BoxLinearCoder",
    "FCOSClassificationHead",
    "FCOSHead",
    "FCOSRegressionHead",
    "GeneralizedRCNNTransform",
    "ImageList",
    "Matcher",
    "PyramidDetector",
    "RetinaNet",
    "RetinaNetClassificationHead",
    "RetinaNetHead",
    "RetinaNetRegressionHead",
    "RoIAlign",
    "SmallResNet",
    "anchor_points",
    "assign_batch",
    "assign_levels",
    "assign_points",
    "average_precision",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "box_loss",
    "build_detector",
    "clip_boxes_to_image",
    "fcos_resnet50_fpn",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "match_fcos",
    "nms",
    "overwrite_eps",
    "remove_small_boxes",
    "require_boxes",
    "require_ordered",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "roi_align",
    "sigmoid_focal_loss",
]
