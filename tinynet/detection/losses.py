"""What detectors learn from: focal loss, GIoU loss, and the loss of a box coder's offsets."""

from __future__ import annotations

from typing import Any

from tinynet import Tensor, maximum, minimum, where
from tinynet.detection.box_coder import BoxCoder
from tinynet.detection.boxes import require_boxes
from tinynet.errors import ShapeError
from tinynet.nn import functional as F
from tinynet.ops import checks
from tinynet.ops.focal_loss import SigmoidFocalLoss
from tinynet.tensor import apply

__all__ = ["box_loss", "generalized_box_iou_loss", "sigmoid_focal_loss"]


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """-alpha_t · (1 - p_t)^gamma · log(p_t) per logit (Lin et al. 2017, equation 5; torchvision.ops).

    p = sigmoid(inputs); for a target of 1, p_t = p and alpha_t = `alpha`, for 0 both are 1 minus that; targets
    in between mix them. `alpha` -1 leaves alpha_t out. `reduction`: "none", "mean" or "sum".

    Raises ShapeError unless both have one shape, DtypeError unless both are float32 or both float64, ValueError
    for an alpha outside of [0, 1] other than -1 or a negative gamma.
    """
    for argument, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(f"sigmoid_focal_loss: {argument} must be a Tensor, got {type(value).__name__}")
    return apply(SigmoidFocalLoss, inputs, targets, alpha=alpha, gamma=gamma, reduction=reduction)


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - GIoU of each box with its partner, (..., 4) and (..., 4) to (...), in [0, 2) (Rezatofighi et al. 2019).

    `eps` is added to both denominators: empty boxes stay finite. "mean" over no boxes is 0 (torchvision.ops).
    """
    name = "generalized_box_iou_loss"
    checks.reduction(name, reduction)
    for argument, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        require_boxes(name, argument, boxes, rows=False)
    if boxes1.shape != boxes2.shape:
        raise ShapeError(f"{name}: boxes1 of shape {tuple(boxes1.shape)} for boxes2 of shape {tuple(boxes2.shape)}")
    a, b = boxes1.unbind(-1), boxes2.unbind(-1)
    width = minimum(a[2], b[2]) - maximum(a[0], b[0])
    height = minimum(a[3], b[3]) - maximum(a[1], b[1])
    overlap = (width > 0) & (height > 0)
    shared = where(overlap, width * height, 0.0)
    joint = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (maximum(a[2], b[2]) - minimum(a[0], b[0])) * (maximum(a[3], b[3]) - minimum(a[1], b[1]))
    loss = 1 - (shared / (joint + eps) - (hull - joint) / (hull + eps))
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" and loss.numel() else loss.sum()


def box_loss(
    type: str,
    box_coder: BoxCoder,
    anchors_per_image: Tensor,
    matched_gt_boxes_per_image: Tensor,
    bbox_regression_per_image: Tensor,
    cnf: dict[str, Any] | None = None,
) -> Tensor:
    """The summed loss of predicted offsets (n, 4) for anchors (n, 4) matched with boxes (n, 4).

    `type` "l1" and "smooth_l1" (with `cnf["beta"]`, 1) compare offsets, "giou" (`cnf["eps"]`, 1e-7) the decoded
    boxes. As torchvision.models.detection._utils._box_loss, without its "ciou" and "diou".
    """
    settings = cnf or {}
    if type == "giou":
        boxes = box_coder.decode_single(bbox_regression_per_image, anchors_per_image)
        eps = settings.get("eps", 1e-7)
        return generalized_box_iou_loss(boxes, matched_gt_boxes_per_image, reduction="sum", eps=eps)
    if type not in ("l1", "smooth_l1"):
        raise ValueError(f"box_loss: type must be 'l1', 'smooth_l1' or 'giou', got {type!r}")
    offsets = box_coder.encode_single(matched_gt_boxes_per_image, anchors_per_image)
    if type == "l1":
        return F.l1_loss(bbox_regression_per_image, offsets, reduction="sum")
    return F.smooth_l1_loss(bbox_regression_per_image, offsets, reduction="sum", beta=settings.get("beta", 1.0))
