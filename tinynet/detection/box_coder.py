"""Boxes as offsets from anchors, and back (``torchvision.models.detection._utils``)."""

from __future__ import annotations

import math

from tinynet import Tensor, cat, stack
from tinynet.detection.boxes import require_boxes
from tinynet.errors import ShapeError

__all__ = ["BoxCoder", "BoxLinearCoder"]

LARGEST_GROWTH = math.log(1000.0 / 16)


class BoxCoder:
    """Offsets (dx, dy, dw, dh) of a box from its anchor (Girshick et al. 2014, appendix C).

    dx and dy move the centre by a share of the anchor's width and height; width and height grow by exp(dw) and
    exp(dh), at most to exp(`bbox_xform_clip`) times the anchor's. Each offset is multiplied by its weight.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float],
        bbox_xform_clip: float = LARGEST_GROWTH,
    ) -> None:
        if len(weights) != 4 or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"BoxCoder: weights must be four positive numbers, got {weights!r}")
        self.weights = tuple(float(weight) for weight in weights)
        self.bbox_xform_clip = float(bbox_xform_clip)

    def encode(self, reference_boxes: list[Tensor], proposals: list[Tensor]) -> tuple[Tensor, ...]:
        """Per image: offsets (n, 4) from the proposals (n, 4) to the reference boxes (n, 4)."""
        if len(reference_boxes) != len(proposals):
            raise ShapeError(
                f"BoxCoder.encode: reference boxes of {len(reference_boxes)} images, proposals of {len(proposals)}"
            )
        sizes = [len(boxes) for boxes in reference_boxes]
        return self.encode_single(cat(list(reference_boxes)), cat(list(proposals))).split(sizes, 0)

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Offsets (n, 4) from the proposals (n, 4) to the reference boxes (n, 4), row by row."""
        require_boxes("BoxCoder.encode", "reference_boxes", reference_boxes)
        require_boxes("BoxCoder.encode", "proposals", proposals)
        if len(reference_boxes) != len(proposals):
            raise ShapeError(
                f"BoxCoder.encode: {len(reference_boxes)} reference boxes for {len(proposals)} proposals"
            )
        width, height, x, y = _size_and_centre(proposals)
        new_width, new_height, new_x, new_y = _size_and_centre(reference_boxes)
        wx, wy, ww, wh = self.weights
        offsets = [
            wx * (new_x - x) / width,
            wy * (new_y - y) / height,
            ww * (new_width / width).log(),
            wh * (new_height / height).log(),
        ]
        return stack(offsets, 1)

    def decode(self, rel_codes: Tensor, boxes: list[Tensor]) -> Tensor:
        """Boxes (n, k, 4) from k offsets for each of the n anchors of all images, in their order."""
        if not isinstance(boxes, list | tuple):
            raise TypeError(f"BoxCoder.decode: boxes must be a list of tensors, got {type(boxes).__name__}")
        anchors = cat(list(boxes))
        count = len(anchors)
        if count and rel_codes.numel() % (4 * count):
            raise ShapeError(
                f"BoxCoder.decode: offsets of shape {tuple(rel_codes.shape)} are not a multiple of 4 for each of "
                f"{count} boxes"
            )
        if count:
            rel_codes = rel_codes.reshape(count, -1)
        decoded = self.decode_single(rel_codes, anchors)
        return decoded.reshape(count, -1, 4) if count else decoded

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes (n, 4k) from offsets (n, 4k): k boxes for each of the n anchors."""
        require_boxes("BoxCoder.decode", "boxes", boxes)
        if rel_codes.ndim != 2 or rel_codes.shape[1] % 4 or len(rel_codes) != len(boxes):
            raise ShapeError(
                f"BoxCoder.decode: {len(boxes)} boxes need offsets of shape ({len(boxes)}, 4·k), "
                f"got {tuple(rel_codes.shape)}"
            )
        width, height, x, y = (side.unsqueeze(1) for side in _size_and_centre(boxes.to(rel_codes.dtype)))
        wx, wy, ww, wh = self.weights
        new_x = rel_codes[:, 0::4] / wx * width + x
        new_y = rel_codes[:, 1::4] / wy * height + y
        half_width = 0.5 * ((rel_codes[:, 2::4] / ww).clamp(max=self.bbox_xform_clip).exp() * width)
        half_height = 0.5 * ((rel_codes[:, 3::4] / wh).clamp(max=self.bbox_xform_clip).exp() * height)
        sides = [new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height]
        return stack(sides, 2).flatten(1)


def _size_and_centre(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(1)
    width, height = x2 - x1, y2 - y1
    return width, height, x1 + 0.5 * width, y1 + 0.5 * height


class BoxLinearCoder:
    """Distances (left, top, right, bottom) of a box's sides from a point (Tian et al. 2019, equation 1).

    The point is the anchor's centre; with `normalize_by_size` the unit is the anchor's size. Shapes (..., 4).
    """

    def __init__(self, normalize_by_size: bool = True) -> None:
        self.normalize_by_size = bool(normalize_by_size)

    def encode(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Distances from the centres of the reference boxes (the anchors) to the sides of the proposals."""
        _require_same("encode", reference_boxes=reference_boxes, proposals=proposals)
        x, y = _centre(reference_boxes)
        x1, y1, x2, y2 = proposals.unbind(-1)
        distances = stack([x - x1, y - y1, x2 - x, y2 - y], -1)
        return distances / _sizes(reference_boxes) if self.normalize_by_size else distances

    def decode(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes whose sides lie at the distances `rel_codes` from the centres of `boxes` (the anchors)."""
        _require_same("decode", rel_codes=rel_codes, boxes=boxes)
        boxes = boxes.to(rel_codes.dtype)
        x, y = _centre(boxes)
        left, top, right, bottom = (rel_codes * _sizes(boxes) if self.normalize_by_size else rel_codes).unbind(-1)
        return stack([x - left, y - top, x + right, y + bottom], -1)


def _require_same(method: str, **boxes: Tensor) -> None:
    for argument, value in boxes.items():
        require_boxes(f"BoxLinearCoder.{method}", argument, value, rows=False)
    (first, a), (second, b) = boxes.items()
    if a.shape[-2:] != b.shape[-2:]:
        raise ShapeError(
            f"BoxLinearCoder.{method}: {first} of shape {tuple(a.shape)} for {second} of shape {tuple(b.shape)}"
        )


def _centre(boxes: Tensor) -> tuple[Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return 0.5 * (x1 + x2), 0.5 * (y1 + y2)


def _sizes(boxes: Tensor) -> Tensor:
    """(width, height, width, height) of each box."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return stack([x2 - x1, y2 - y1, x2 - x1, y2 - y1], -1)
