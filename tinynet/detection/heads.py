"""What the heads of one-stage detectors share: 3×3 convolutions for all levels, and their outputs as rows."""

from __future__ import annotations

import math
from collections.abc import Callable

from tinynet import Tensor, nn

__all__ = ["PRIOR_PROBABILITY", "NormLayer", "convolution", "convolution_block", "per_anchor", "prior_bias"]

NormLayer = Callable[..., nn.Module]
PRIOR_PROBABILITY = 0.01  # of every class at first (Lin et al. 2017, arXiv 1708.02002, section 4.1)


def convolution(in_channels: int, out_channels: int, bias: float | None = 0.0) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, drawn from N(0, 0.01²); `bias` is the constant it starts with."""
    made = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=1, padding=1, bias=bias is not None)
    nn.init.normal_(made.weight, std=0.01)
    if bias is not None:
        nn.init.constant_(made.bias, bias)
    return made


def convolution_block(channels: int, norm_layer: NormLayer | None, bias: float | None = 0.0) -> list[nn.Module]:
    """Convolution, norm if there is one, ReLU: one of the four steps of a head's tower."""
    norm = [] if norm_layer is None else [norm_layer(channels)]
    return [convolution(channels, channels, bias), *norm, nn.ReLU()]


def prior_bias(probability: float) -> float:
    """The logit of `probability`: with it as bias, the background does not swamp the first losses."""
    return -math.log((1 - probability) / probability)


def per_anchor(outputs: Tensor, columns: int) -> Tensor:
    """(N, A·columns, H, W) as (N, H·W·A, columns): a row for each of A anchors at each position, row-major."""
    return outputs.permute(0, 2, 3, 1).reshape(outputs.shape[0], -1, columns)
