"""Which prediction answers for which object: matching by IoU, and by points inside of boxes.

All of it works on values without gradients and returns int64 indices of objects, negative for background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tinynet import Tensor, as_tensor, cat
from tinynet.detection.boxes import require_boxes, require_ordered
from tinynet.errors import ShapeError

__all__ = ["Matcher", "assign_batch", "assign_levels", "assign_points", "match_fcos"]


class Matcher:
    """Each prediction's best object by a quality such as the IoU (torchvision.models.detection._utils.Matcher).

    From `high_threshold` on a prediction is matched, below `low_threshold` it is background, in between it is
    ignored. With `allow_low_quality_matches` the best predictions of each object, ties included, are matched to
    whatever object they fit best, however badly.
    """

    BELOW_LOW_THRESHOLD = -1
    BETWEEN_THRESHOLDS = -2

    def __init__(self, high_threshold: float, low_threshold: float, allow_low_quality_matches: bool = False) -> None:
        if not low_threshold <= high_threshold:
            raise ValueError(
                f"Matcher: low_threshold {low_threshold} must not be above high_threshold {high_threshold}"
            )
        self.high_threshold = high_threshold
        self.low_threshold = low_threshold
        self.allow_low_quality_matches = bool(allow_low_quality_matches)

    def __call__(self, match_quality_matrix: Tensor) -> Tensor:
        """Qualities (objects, predictions) to one index per prediction: an object's, or -1 or -2.

        Raises ValueError if there are no objects or no predictions.
        """
        quality = match_quality_matrix._array
        if quality.ndim != 2:
            raise ShapeError(f"Matcher: the qualities must be (objects, predictions), got {quality.shape}")
        if not len(quality):
            raise ValueError("Matcher: an image without objects has nothing to match")
        if not quality.size:
            raise ValueError("Matcher: there are no predictions to match")
        best = quality.argmax(axis=0)
        best_quality = quality[best, np.arange(len(best))]
        matches = best.copy()
        matches[best_quality < self.low_threshold] = self.BELOW_LOW_THRESHOLD
        between = (best_quality >= self.low_threshold) & (best_quality < self.high_threshold)
        matches[between] = self.BETWEEN_THRESHOLDS
        result = as_tensor(matches)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(result, as_tensor(best), match_quality_matrix)
        return result

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        """Gives the predictions that fit some object best, ties included, back what `all_matches` says."""
        quality = match_quality_matrix._array
        of_an_object = (quality == quality.max(axis=1, keepdims=True)).any(axis=0)
        matches[of_an_object] = all_matches[of_an_object]


def match_fcos(
    anchors: Tensor,
    boxes: Tensor,
    num_anchors_per_level: Sequence[int],
    center_sampling_radius: float = 1.5,
) -> Tensor:
    """The object of each anchor point, (A,), -1 for background, as torchvision's FCOS assigns them.

    `anchors` (A, 4) are square and as large as their level's stride s. A point is an object's if it lies inside
    of its box and less than `center_sampling_radius`·s from its centre along both axes, and if the longest of
    its distances to the four sides is in (4s, 8s), on the first level from 0, on the last to infinity. Among
    several objects the smallest wins (areas compared in float32 as 1e8 - area, so up to 8 pixels² apart the
    first wins).
    """
    require_boxes("match_fcos", "anchors", anchors)
    require_boxes("match_fcos", "boxes", boxes)
    corners, objects = anchors._array, boxes._array
    if sum(num_anchors_per_level) != len(corners):
        raise ShapeError(
            f"match_fcos: {len(corners)} anchors, but the levels have {list(num_anchors_per_level)}, "
            f"in all {sum(num_anchors_per_level)}"
        )
    if not len(objects):
        return as_tensor(np.full(len(corners), -1, np.int64))
    points = (corners[:, :2] + corners[:, 2:]) / 2
    stride = corners[:, 2] - corners[:, 0]
    centres = (objects[:, :2] + objects[:, 2:]) / 2
    central = np.abs(points[:, None] - centres).max(axis=2) < center_sampling_radius * stride[:, None]
    sides = np.concatenate([points[:, None] - objects[:, :2], objects[:, 2:] - points[:, None]], axis=2)
    longest = sides.max(axis=2)
    least, most = 4 * stride, 8 * stride
    least[: num_anchors_per_level[0]] = 0
    most[len(most) - num_anchors_per_level[-1] :] = np.inf
    fits = central & (sides.min(axis=2) > 0) & (longest > least[:, None]) & (longest < most[:, None])
    areas = (objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1])
    preference = fits.astype(np.float32) * (areas.dtype.type(1e8) - areas)
    matched = preference.argmax(axis=1)
    matched[preference.max(axis=1) < 1e-5] = -1
    return as_tensor(matched)


def assign_levels(boxes: Tensor, strides: Sequence[float], scale: float = 2.5) -> Tensor:
    """The level (N,) of each box (N, 4) by its size sqrt(area).

    Level i, of stride s, takes sizes in [scale·s/2, scale·s), the first level all below and the last all above.
    """
    require_boxes("assign_levels", "boxes", boxes)
    require_ordered("assign_levels", boxes)
    if not len(strides) or any(low >= high for low, high in pairwise(strides)):
        raise ValueError(f"assign_levels: strides must grow from level to level, got {list(strides)}")
    if not scale > 0:
        raise ValueError(f"assign_levels: scale must be positive, got {scale}")
    x1, y1, x2, y2 = boxes._array.astype(np.float64).T
    limits = scale * np.array(strides[:-1], np.float64)
    return as_tensor(np.searchsorted(limits, np.sqrt((x2 - x1) * (y2 - y1)), side="right").astype(np.int64))


def assign_points(
    boxes: Tensor,
    grid_sizes: Sequence[Sequence[int]],
    strides: Sequence[float],
    radius: float = 1.5,
    scale: float = 2.5,
) -> Tensor:
    """The object of each cell of all levels, row-major and level after level, -1 for background.

    A box (N, 4) belongs to its level of :func:`assign_levels`. There it takes the cells whose centres lie inside
    of it and less than `radius` strides from its own centre along both axes, and always the cell that holds its
    centre, so that no object goes without. Where boxes meet, the smallest wins, of equal ones the first.
    """
    return assign_batch([boxes], grid_sizes, strides, radius, scale)[0]


def assign_batch(
    boxes: Sequence[Tensor],
    grid_sizes: Sequence[Sequence[int]],
    strides: Sequence[float],
    radius: float = 1.5,
    scale: float = 2.5,
) -> Tensor:
    """:func:`assign_points` for the boxes (N, 4) of each of several images at once: (images, cells).

    Boxes are numbered through all images: the first one of the second image comes after the last of the first.
    """
    if len(grid_sizes) != len(strides):
        raise ShapeError(f"assign_points: {len(grid_sizes)} levels but {len(strides)} strides")
    if not radius >= 0:
        raise ValueError(f"assign_points: radius must not be negative, got {radius}")
    sizes = np.array(grid_sizes, np.int64).reshape(-1, 2)
    counts = sizes.prod(axis=1)
    matched = np.full((len(boxes), int(counts.sum())), -1, np.int64)
    joined = cat(list(boxes)) if len(boxes) > 1 else boxes[0]
    levels = assign_levels(joined, strides, scale)._array
    corners = joined._array.astype(np.float64)
    if not len(corners):
        return as_tensor(matched)
    columns, rows, taken = _taken_cells(corners, sizes[levels, ::-1], np.array(strides, np.float64)[levels], radius)
    image = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    first_cell = image * matched.shape[1] + (np.cumsum(counts) - counts)[levels]
    cells = first_cell[:, None] + rows * sizes[levels, 1:] + columns
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order = np.argsort(areas, kind="stable")[::-1]  # the smallest and first last: what is written last remains
    taken = taken[order]
    matched.reshape(-1)[cells[order][taken]] = np.broadcast_to(order[:, None], taken.shape)[taken]
    return as_tensor(matched)


def _taken_cells(
    corners: np.ndarray, grid: np.ndarray, stride: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For boxes (N, 4) on grids of (columns, rows), (N, 2): columns and rows (N, n) of the cells around, and which
    of them it takes. The last one is the cell that holds its centre.
    """
    stride = stride[:, None, None]
    low, high = corners[:, None, :2], corners[:, None, 2:]
    middle = (low + high) / 2
    holding = np.floor(middle / stride).astype(np.int64)
    reach = min(math.ceil(radius + 0.5) - 1, int(grid.max()))
    steps = np.arange(-reach, reach + 1)
    around = np.stack(np.meshgrid(steps, steps), -1).reshape(1, -1, 2)
    cells = holding + around
    centres = (cells + 0.5) * stride
    least, most = np.maximum(low, middle - radius * stride), np.minimum(high, middle + radius * stride)
    taken = ((centres > least) & (centres < most) & (cells >= 0) & (cells < grid[:, None])).all(axis=2)
    cells = np.concatenate([cells, holding.clip(0, grid[:, None] - 1)], axis=1)
    return cells[..., 0], cells[..., 1], np.pad(taken, ((0, 0), (0, 1)), constant_values=True)
