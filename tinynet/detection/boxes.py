"""Boxes as tensors (..., 4), and what detectors compute with them (``torchvision.ops``).

A box is (x1, y1, x2, y2) in pixels, ``xyxy``, unless a format is named: ``xywh`` (corner and size) or ``cxcywh``
(centre and size). Its area is (x2 - x1)·(y2 - y1), without the +1 of older detectors. Empty and inverted boxes
are computed like all others, as in torchvision; :func:`require_ordered` refuses them where they make no sense.
"""

from __future__ import annotations

import numpy as np

from tinynet import Tensor, maximum, minimum, stack
from tinynet.errors import DtypeError, ShapeError

__all__ = [
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "generalized_box_iou",
    "remove_small_boxes",
    "require_boxes",
    "require_ordered",
]

FORMATS = ("xyxy", "xywh", "cxcywh")


def require_boxes(name: str, argument: str, boxes: Tensor, rows: bool = True) -> None:
    """Refuses what is no tensor (N, 4) of numbers, or with `rows` False (..., 4).

    Raises TypeError, ShapeError with the shape, or DtypeError.
    """
    if not isinstance(boxes, Tensor):
        raise TypeError(f"{name}: {argument} must be a Tensor, got {type(boxes).__name__}; see tinynet.as_tensor")
    wanted = "(N, 4)" if rows else "(..., 4)"
    if boxes.ndim == 0 or boxes.shape[-1] != 4 or (rows and boxes.ndim != 2):
        raise ShapeError(f"{name}: {argument} must be {wanted}, one box x1, y1, x2, y2 a row, got {tuple(boxes.shape)}")
    if boxes._array.dtype.kind not in "if":
        raise DtypeError(f"{name}: {argument} must hold numbers, got {boxes.dtype}")


def require_ordered(name: str, boxes: Tensor | np.ndarray, strictly: bool = False) -> None:
    """Refuses boxes (N, 4) that are not finite or have x2 < x1 or y2 < y1; with `strictly`, empty ones too.

    `name` begins the message: say there which image it is. Raises ValueError with their number and the first.
    """
    array = boxes._array if isinstance(boxes, Tensor) else boxes
    endless = ~np.isfinite(array).all(axis=1)
    size = array[:, 2:] - array[:, :2]
    disordered = (size <= 0 if strictly else size < 0).any(axis=1) & ~endless
    sign = "<=" if strictly else "<"
    for wrong, problem in ((endless, "are not finite"), (disordered, f"have x2 {sign} x1 or y2 {sign} y1")):
        if wrong.any():
            first = int(wrong.argmax())
            raise ValueError(
                f"{name}: {int(wrong.sum())} of {len(array)} boxes {problem}, "
                f"the first is box {first}: {array[first].tolist()}"
            )


def _require_format(name: str, value: str) -> None:
    if value not in FORMATS:
        raise ValueError(f"{name}: the format must be one of {', '.join(FORMATS)}, got {value!r}")


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes (..., 4) from one format to another: "xyxy", "xywh" or "cxcywh". Always a new tensor."""
    require_boxes("box_convert", "boxes", boxes, rows=False)
    _require_format("box_convert", in_fmt)
    _require_format("box_convert", out_fmt)
    if in_fmt == out_fmt:
        return boxes.clone()
    return _from_corners(_to_corners(boxes, in_fmt), out_fmt)


def _to_corners(boxes: Tensor, fmt: str) -> Tensor:
    if fmt == "xyxy":
        return boxes
    x, y, width, height = boxes.unbind(-1)
    if fmt == "xywh":
        return stack([x, y, x + width, y + height], -1)
    return stack([x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height], -1)


def _from_corners(boxes: Tensor, fmt: str) -> Tensor:
    if fmt == "xyxy":
        return boxes
    x1, y1, x2, y2 = boxes.unbind(-1)
    if fmt == "xywh":
        return stack([x1, y1, x2 - x1, y2 - y1], -1)
    return stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)


def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """The area of each box: (..., 4) to (...)."""
    require_boxes("box_area", "boxes", boxes, rows=False)
    _require_format("box_area", fmt)
    first, second, third, fourth = boxes.unbind(-1)
    return third * fourth if fmt != "xyxy" else (third - first) * (fourth - second)


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """Intersection over union of every box of (..., N, 4) with every one of (..., M, 4): (..., N, M).

    NaN for two boxes of area 0. Differentiable.
    """
    _require_pair("box_iou", boxes1, boxes2)
    _require_format("box_iou", fmt)
    areas = box_area(boxes1, fmt), box_area(boxes2, fmt)
    shared, joint = _shared_and_joint(_to_corners(boxes1, fmt), _to_corners(boxes2, fmt), *areas)
    return shared / joint


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU - (hull - union) / hull for every pair, (..., N, 4) and (..., M, 4) to (..., N, M), in (-1, 1].

    The hull is the smallest box around both (Rezatofighi et al. 2019, algorithm 1). Differentiable.
    """
    _require_pair("generalized_box_iou", boxes1, boxes2)
    shared, joint = _shared_and_joint(boxes1, boxes2, box_area(boxes1), box_area(boxes2))
    first, second = _all_pairs(boxes1, boxes2)
    width = maximum(first[2], second[2]) - minimum(first[0], second[0])
    height = maximum(first[3], second[3]) - minimum(first[1], second[1])
    hull = width.clamp(min=0) * height.clamp(min=0)
    return shared / joint - (hull - joint) / hull


def _require_pair(name: str, boxes1: Tensor, boxes2: Tensor) -> None:
    for argument, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        require_boxes(name, argument, boxes, rows=False)
        if boxes.ndim < 2:
            raise ShapeError(f"{name}: {argument} must be (..., N, 4), got {tuple(boxes.shape)}")


def _all_pairs(boxes1: Tensor, boxes2: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The sides of both as (..., N, 1) and (..., 1, M)."""
    return boxes1.unsqueeze(-2).unbind(-1), boxes2.unsqueeze(-3).unbind(-1)


def _shared_and_joint(boxes1: Tensor, boxes2: Tensor, areas1: Tensor, areas2: Tensor) -> tuple[Tensor, Tensor]:
    """The area that each pair shares, and the area that it covers together."""
    first, second = _all_pairs(boxes1, boxes2)
    width = minimum(first[2], second[2]) - maximum(first[0], second[0])
    height = minimum(first[3], second[3]) - maximum(first[1], second[1])
    shared = width.clamp(min=0) * height.clamp(min=0)
    return shared, areas1.unsqueeze(-1) + areas2.unsqueeze(-2) - shared


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) moved inside an image of `size` (height, width): x to [0, width], y to [0, height]."""
    require_boxes("clip_boxes_to_image", "boxes", boxes, rows=False)
    height, width = size
    if not (height >= 0 and width >= 0):
        raise ValueError(f"clip_boxes_to_image: an image cannot be {height} high and {width} wide")
    x1, y1, x2, y2 = boxes.unbind(-1)
    sides = [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)]
    return stack(sides, -1)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices (int64) of the boxes (N, 4) whose width and height both reach `min_size`."""
    require_boxes("remove_small_boxes", "boxes", boxes)
    if not min_size >= 0:
        raise ValueError(f"remove_small_boxes: min_size must not be negative, got {min_size}")
    x1, y1, x2, y2 = boxes.detach().unbind(-1)
    return ((x2 - x1 >= min_size) & (y2 - y1 >= min_size)).nonzero(as_tuple=True)[0]
