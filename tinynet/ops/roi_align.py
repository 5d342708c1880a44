"""RoIAlign: regions of interest of (N, C, H, W) as small maps of one size (``torchvision.ops.roi_align``)."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ShapeError
from ..kernels import boxes as kernels
from ..tape import Operation
from . import checks

MOST_SAMPLES = 2**26  # along one axis, over all regions: tables of 2 GB


class RoIAlign(Operation):
    """The mean of bilinear samples over each bin of each region; the regions themselves get no gradient.

    ``rois`` (K, 5) holds the image's index and x1, y1, x2, y2, which ``spatial_scale`` brings to pixels of the
    input. A bin takes ``sampling_ratio``² samples, or about one per pixel if that is not positive. With
    ``aligned`` the coordinates are shifted by half a pixel and a region may be smaller than one.
    """

    name = "roi_align"

    @staticmethod
    def forward(ctx, input, rois, *, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
        output_size, *settings = _check_roi_align(input, rois, output_size, spatial_scale, sampling_ratio, aligned)
        ctx.save(rois=rois, input_shape=input.shape, settings=settings)
        return kernels.roi_align(input, rois, output_size, *settings)

    @staticmethod
    def backward(ctx, grad):
        return kernels.roi_align_backward(grad, ctx.rois, ctx.input_shape, *ctx.settings), None


def _check_roi_align(input, rois, output_size, spatial_scale, sampling_ratio, aligned):
    checks.floating("roi_align", input=input, boxes=rois)
    checks.images("roi_align", input.shape, "(N, C, H, W)")
    output_size = checks.pair("roi_align", "output_size", output_size, minimum=1)
    scale = checks.number("roi_align", "spatial_scale", spatial_scale)
    if not 0 < scale < math.inf:
        raise ValueError(f"roi_align: spatial_scale must be positive and finite, got {spatial_scale}")
    ratio = checks.integer("roi_align", "sampling_ratio", sampling_ratio, minimum=-checks.LARGEST)
    _check_rois(rois, len(input))
    settings = (scale, ratio, bool(aligned))
    samples = kernels.roi_samples(rois, output_size, *settings)
    for axis, per_bin, bins in zip("HW", samples, output_size):
        total = float(per_bin.sum(dtype=np.float64)) * bins
        if total > MOST_SAMPLES:
            worst = int(per_bin.argmax())
            raise ShapeError(
                f"roi_align: {total:.3g} samples along {axis} are too many (at most {MOST_SAMPLES}); region {worst}, "
                f"{rois[worst, 1:].tolist()} · {scale:g}, alone takes {int(per_bin[worst])} per bin; set sampling_ratio"
            )
    return output_size, *settings


def _check_rois(rois: np.ndarray, images: int) -> None:
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise ShapeError(
            f"roi_align: boxes must be (K, 5), the image's index before x1, y1, x2, y2, got shape {rois.shape}"
        )
    broken = np.flatnonzero(~np.isfinite(rois).all(axis=1))
    if len(broken):
        raise ValueError(
            f"roi_align: {len(broken)} of {len(rois)} boxes are not finite, "
            f"the first is box {broken[0]}: {rois[broken[0]].tolist()}"
        )
    index = rois[:, 0]
    wrong = np.flatnonzero((index < 0) | (index >= images) | (index != np.floor(index)))
    if len(wrong):
        raise IndexError(
            f"roi_align: box {wrong[0]} belongs to image {index[wrong[0]]:g}, the batch has images 0..{images - 1}"
        )
