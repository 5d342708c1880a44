"""Where predictions sit: anchor boxes and anchor points over the levels of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinynet
from tinynet import Tensor, as_tensor, cat, nn
from tinynet.detection.image_list import ImageList
from tinynet.errors import ShapeError

__all__ = ["AnchorGenerator", "anchor_points"]


class AnchorGenerator(nn.Module):
    """Boxes of several sizes and shapes around every position of every level
    (torchvision.models.detection.anchor_utils.AnchorGenerator).

    `sizes` holds one tuple of anchor sizes (square roots of areas, in pixels) per level; `aspect_ratios` one tuple
    of height / width per level. A flat `sizes` means one size per level, flat `aspect_ratios` are every level's.
    The anchors of a position come ratio by ratio, within a ratio size by size, with half sides rounded half to
    even; they are centred on (column·stride, row·stride), with the stride = padded size // size of the map.
    """

    def __init__(
        self,
        sizes: Sequence[Any] = ((128, 256, 512),),
        aspect_ratios: Sequence[Any] = ((0.5, 1.0, 2.0),),
    ) -> None:
        super().__init__()
        if not isinstance(sizes[0], list | tuple):
            sizes = tuple((size,) for size in sizes)
        if not isinstance(aspect_ratios[0], list | tuple):
            aspect_ratios = (aspect_ratios,) * len(sizes)
        if len(sizes) != len(aspect_ratios):
            raise ShapeError(
                f"AnchorGenerator: sizes are for {len(sizes)} levels, aspect_ratios for {len(aspect_ratios)}"
            )
        for argument, levels in (("sizes", sizes), ("aspect_ratios", aspect_ratios)):
            for level, values in enumerate(levels):
                if not values or not all(0 < value < math.inf for value in values):
                    raise ValueError(f"AnchorGenerator: {argument} of level {level} must be positive, got {values!r}")
        self.sizes = sizes
        self.aspect_ratios = aspect_ratios
        self.cell_anchors = [self.generate_anchors(size, ratio) for size, ratio in zip(sizes, aspect_ratios)]

    def generate_anchors(
        self, scales: Sequence[float], aspect_ratios: Sequence[float], dtype: tinynet.dtype = tinynet.float32
    ) -> Tensor:
        """The anchors (ratios · scales, 4) of one position, around (0, 0)."""
        side = as_tensor(scales, dtype=dtype)
        height_ratio = as_tensor(aspect_ratios, dtype=dtype).sqrt()
        width = ((1 / height_ratio).unsqueeze(1) * side).flatten()
        height = (height_ratio.unsqueeze(1) * side).flatten()
        return (tinynet.stack([-width, -height, width, height], 1) / 2).round()

    def num_anchors_per_location(self) -> list[int]:
        """Anchors at each position, per level."""
        return [len(anchors) for anchors in self.cell_anchors]

    def set_cell_anchors(self, dtype: tinynet.dtype) -> None:
        """Converts the anchors of one position to `dtype`."""
        self.cell_anchors = [anchors.to(dtype) for anchors in self.cell_anchors]

    def grid_anchors(self, grid_sizes: Sequence[Sequence[int]], strides: Sequence[Sequence[int]]) -> list[Tensor]:
        """Per level the anchors (rows · columns · anchors per position, 4), row-major."""
        if not len(grid_sizes) == len(strides) == len(self.cell_anchors):
            raise ShapeError(
                f"AnchorGenerator: made for {len(self.cell_anchors)} levels (one entry of sizes each), "
                f"got {len(grid_sizes)} feature maps and {len(strides)} strides"
            )
        levels = []
        for grid_size, stride, anchors in zip(grid_sizes, strides, self.cell_anchors):
            dtype = anchors._array.dtype
            x, y = (axis.astype(dtype) for axis in _grid(grid_size, stride))
            corners = np.stack([x, y, x, y], 1)
            levels.append(as_tensor((corners[:, None] + anchors._array).reshape(-1, 4)))
        return levels

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Per image all anchors (A, 4), level after level, in the dtype of the maps (N, C, H, W).

        All images share one tensor: they have one padded size.
        """
        grid_sizes = [tuple(feature_map.shape[-2:]) for feature_map in feature_maps]
        image_size = image_list.tensors.shape[-2:]
        strides = [(image_size[0] // rows, image_size[1] // columns) for rows, columns in grid_sizes]
        self.set_cell_anchors(feature_maps[0].dtype)
        anchors = cat(self.grid_anchors(grid_sizes, strides))
        return [anchors for _ in image_list.image_sizes]

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, aspect_ratios={self.aspect_ratios}"


def anchor_points(
    grid_sizes: Sequence[Sequence[int]],
    strides: Sequence[float],
    offset: float = 0.0,
    dtype: tinynet.dtype = tinynet.float32,
) -> list[Tensor]:
    """Per level the points (rows · columns, 2) as x, y: ((column + offset)·stride, (row + offset)·stride), row-major.

    `offset` 0 is torchvision's FCOS, 0.5 the centre of the cell (the FCOS paper).
    """
    if len(grid_sizes) != len(strides):
        raise ShapeError(f"anchor_points: {len(grid_sizes)} levels but {len(strides)} strides")
    levels = []
    for grid_size, stride in zip(grid_sizes, strides):
        x, y = _grid(grid_size, (1, 1))
        levels.append(as_tensor((np.stack([x, y], 1) + offset) * stride).to(dtype))
    return levels


def _grid(grid_size: Sequence[int], stride: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every position of a grid (rows, columns), row-major."""
    y, x = np.mgrid[: grid_size[0], : grid_size[1]]
    return x.ravel() * int(stride[1]), y.ravel() * int(stride[0])
