"""Non-maximum suppression: of boxes that overlap, only the best remains (``torchvision.ops``)."""

from __future__ import annotations

import numpy as np

from tinynet import Tensor, as_tensor
from tinynet.detection.boxes import require_boxes
from tinynet.errors import DtypeError, ShapeError
from tinynet.kernels import boxes as kernels
from tinynet.ops import checks

__all__ = ["batched_nms", "nms"]

# From this many values of boxes on, torchvision suppresses class by class on a CPU.
PER_CLASS_ABOVE = 4000


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices (int64) of the boxes (N, 4) to keep, by descending score (N,); equal scores by position.

    The best box stays, those that overlap it with an IoU above `iou_threshold` go, then the best of the rest
    stays, and so on. Two boxes of area 0 and boxes with NaN overlap nothing. Nothing here has a gradient.

    Raises ShapeError for other shapes, ValueError for a threshold outside of [0, 1], DtypeError unless both
    are float32 or both float64.
    """
    return as_tensor(kernels.nms(*_checked("nms", boxes, scores, iou_threshold)))


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """:func:`nms` within each class: boxes of different `idxs` (N,) never suppress each other.

    Up to 4,000 values of boxes the classes are moved apart, each by its number times the largest coordinate
    plus 1, and suppressed at once: in float32 that rounds the far ones, so that an IoU next to the threshold
    may fall on its other side. Larger inputs go class by class. Both as torchvision does on a CPU.
    """
    box_array, score_array, threshold = _checked("batched_nms", boxes, scores, iou_threshold)
    classes = idxs._array if isinstance(idxs, Tensor) else np.asarray(idxs)
    if classes.shape != score_array.shape:
        raise ShapeError(f"batched_nms: {len(box_array)} boxes need idxs of shape ({len(box_array)},), "
                         f"got {classes.shape}")  # fmt: skip
    if classes.dtype.kind not in "iu":
        raise DtypeError(f"batched_nms: idxs must be integers, got {classes.dtype}")
    if not len(box_array):
        return as_tensor(np.empty(0, np.int64))
    if box_array.size > PER_CLASS_ABOVE:
        return as_tensor(_class_by_class(box_array, score_array, classes, threshold))
    with np.errstate(all="ignore"):
        offsets = classes.astype(box_array.dtype) * (box_array.max() + box_array.dtype.type(1))
        apart = box_array + offsets[:, None]
    return as_tensor(kernels.nms(apart, score_array, threshold))


def _class_by_class(boxes, scores, classes, threshold) -> np.ndarray:
    keep = np.zeros(len(scores), bool)
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        keep[members[kernels.nms(boxes[members], scores[members], threshold)]] = True
    kept = np.flatnonzero(keep)
    return kept[kernels.best_first(scores[kept])]


def _checked(name: str, boxes: Tensor, scores: Tensor, iou_threshold: float) -> tuple[np.ndarray, np.ndarray, float]:
    require_boxes(name, "boxes", boxes)
    if not isinstance(scores, Tensor):
        raise TypeError(f"{name}: scores must be a Tensor, got {type(scores).__name__}")
    checks.floating(name, boxes=boxes._array, scores=scores._array)
    if scores._array.shape != boxes._array.shape[:1]:
        raise ShapeError(
            f"{name}: {len(boxes)} boxes need scores of shape ({len(boxes)},), got {tuple(scores.shape)}"
        )
    return boxes._array, scores._array, checks.number(name, "iou_threshold", iou_threshold, 0, 1)
