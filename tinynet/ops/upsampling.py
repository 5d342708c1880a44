"""Resizing images: ``torch.nn.functional.interpolate``, nearest and bilinear, input (N, C, H, W).

``size`` is the output's (height, width). ``scale`` is None, or the scale factors (height, width) that the
caller gave: torch then steps by 1 / scale through the input instead of by input / output.
"""

from __future__ import annotations

import math

from .. import kernels
from ..errors import ShapeError
from ..tape import Operation
from . import checks

IMAGES = "(N, C, H, W)"  # torch would read three axes as (N, C, L)


class Nearest(Operation):
    """Each output pixel copies an input pixel; ``exact`` takes the one under its centre ("nearest-exact")."""

    name = "interpolate"

    @staticmethod
    def forward(ctx, input, *, size, scale=None, exact=False):
        size, scale = _check_resize(input, size, scale)
        ctx.save(input_shape=input.shape, scale=scale, exact=bool(exact))
        return kernels.nearest(input, size, scale, bool(exact))

    @staticmethod
    def backward(ctx, grad):
        return kernels.nearest_backward(grad, ctx.input_shape, ctx.scale, ctx.exact)


class Bilinear(Operation):
    """Each output pixel mixes the four input pixels around it by their distance."""

    name = "interpolate"

    @staticmethod
    def forward(ctx, input, *, size, align_corners=False, scale=None):
        size, scale = _check_resize(input, size, scale)
        ctx.save(input_shape=input.shape, align_corners=bool(align_corners), scale=scale)
        return kernels.bilinear(input, size, bool(align_corners), scale)

    @staticmethod
    def backward(ctx, grad):
        return kernels.bilinear_backward(grad, ctx.input_shape, ctx.align_corners, ctx.scale)


def resized(shape, scale_factor) -> tuple[tuple[int, int], tuple[float, float]]:
    """The output size floor(H · scale) of an input ``shape`` (N, C, H, W), and the scales as a pair."""
    checks.images("interpolate", shape, IMAGES)
    scale = _scale_pair(scale_factor)
    return (math.floor(shape[2] * scale[0]), math.floor(shape[3] * scale[1])), scale


def _scale_pair(scale_factor) -> tuple[float, float]:
    given = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    try:
        height, width = [float(number) for number in given]
    except (TypeError, ValueError) as error:
        wanted = f"interpolate: scale_factor must be a number or a pair of numbers, got {scale_factor!r}"
        raise (TypeError if isinstance(error, TypeError) else ShapeError)(wanted) from None
    if not (0 < height < checks.LARGEST and 0 < width < checks.LARGEST):
        raise ShapeError(f"interpolate: scale_factor must be positive and finite, got {scale_factor!r}")
    return height, width


def _check_resize(input, size, scale):
    checks.floating("interpolate", input=input)
    checks.images("interpolate", input.shape, IMAGES)
    if scale is not None:
        scale = _scale_pair(scale)
        if min(size) < 1:
            raise ShapeError(
                f"interpolate: scale_factor {scale} makes nothing of the input {checks.by(input.shape[2:])} "
                f"(floor(H·scale) x floor(W·scale) = {checks.by(size)})"
            )
    return checks.pair("interpolate", "size", size, minimum=1), scale
