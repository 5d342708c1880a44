"""RoIAlign over Tensors: ``torchvision.ops.roi_align`` and ``torchvision.ops.RoIAlign``."""

from __future__ import annotations

from tinynet import Tensor, cat, full, nn
from tinynet.detection.boxes import require_boxes
from tinynet.errors import ShapeError
from tinynet.ops import roi_align as operation
from tinynet.tensor import apply

__all__ = ["RoIAlign", "roi_align"]


def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Regions of feature maps `input` (N, C, H, W) as maps (K, C, *output_size) (He et al. 2017, section 3).

    `boxes` is a list of one (L, 4) tensor per image, or one tensor (K, 5) with the image's index in front;
    `spatial_scale` brings their coordinates to pixels of `input` (1/8 for a map of stride 8). Each bin is the
    mean of `sampling_ratio`² bilinear samples, or of one per pixel of the bin if that is not positive.
    `aligned` moves the region by half a pixel, to where pixel centres are. Differentiable in `input`.

    Raises ShapeError for other shapes, IndexError for an image that is not in the batch, ValueError for a
    region that is not finite, DtypeError unless all are float32 or all float64.
    """
    if not isinstance(boxes, Tensor):
        boxes = _with_image_index(input, boxes)
    return apply(
        operation.RoIAlign, input, boxes,
        output_size=output_size, spatial_scale=spatial_scale, sampling_ratio=sampling_ratio, aligned=aligned,
    )  # fmt: skip


def _with_image_index(input: Tensor, boxes: list[Tensor]) -> Tensor:
    if len(boxes) != len(input):
        raise ShapeError(f"roi_align: {len(boxes)} tensors of boxes for a batch of {len(input)} images")
    if not boxes:
        return input.new_zeros((0, 5))
    rows = []
    for index, boxes_of_image in enumerate(boxes):
        require_boxes("roi_align", f"boxes[{index}]", boxes_of_image)
        column = full((len(boxes_of_image), 1), float(index), dtype=boxes_of_image.dtype)
        rows.append(cat([column, boxes_of_image.detach()], 1))
    return cat(rows, 0)


class RoIAlign(nn.Module):
    """:func:`roi_align` as a layer."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor | list[Tensor]) -> Tensor:
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
