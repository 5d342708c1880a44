"""The four designs of Figure 1 of Lin et al. 2017 (arXiv 1612.03144) and their ablations as small detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tinynet import nn
from tinynet.detection.pyramid_detector import PyramidDetector, SmallResNet
from tinynet.models.feature_maps import FeatureMaps
from tinynet.models.pyramids import FPN, FeaturizedImagePyramid, PyramidalFeatureHierarchy, SingleFeatureMap

__all__ = ["DESIGNS", "Design", "build_detector"]

Body = Callable[[Sequence[int]], FeatureMaps]  # from the numbers of the maps, 2 to 5
SINGLE = 4  # the map of the designs with one map, and the one that an image pyramid computes on every copy


class Design(NamedTuple):
    """One way to see objects of all sizes.

    `build(body, levels, channels)` makes the design on the maps that `body([2, 3, 4, 5])` gives, for the levels
    finest first, with `channels` where it has channels of its own.
    """

    title: str
    build: Callable[[Body, Sequence[int], int], nn.Module]
    own_heads: bool = False


def _image_pyramid(body: Body, levels: Sequence[int], channels: int) -> nn.Module:
    """C4 of as many enlarged copies as bring its stride down to that of the finest level."""
    return FeaturizedImagePyramid(body([SINGLE]), down=0, up=max(0, SINGLE - levels[0]), own_norms=True)


def _single(number: int, body: Body, levels: Sequence[int], channels: int) -> nn.Module:
    return SingleFeatureMap(body([number]))


def _hierarchy(body: Body, levels: Sequence[int], channels: int) -> nn.Module:
    return PyramidalFeatureHierarchy(body(levels))


def _fpn(body: Body, levels: Sequence[int], channels: int, **options: Any) -> nn.Module:
    return FPN(body(levels), channels, norm_layer=nn.BatchNorm2d, **options)


DESIGNS: Mapping[str, Design] = {
    "image-pyramid": Design("(a) image pyramid", _image_pyramid),
    "c4": Design("(b) C4 alone", partial(_single, 4)),
    "c5": Design("(b) C5 alone", partial(_single, 5)),
    "hierarchy": Design("(c) hierarchy", _hierarchy, own_heads=True),
    "fpn": Design("(d) FPN", _fpn),
    "fpn-no-lateral": Design("FPN, no laterals", partial(_fpn, lateral=False)),
    "fpn-no-top-down": Design("FPN, no top-down", partial(_fpn, top_down=False)),
    "fpn-p2": Design("FPN, finest only", partial(_fpn, finest_only=True)),
    "fpn-scaled-top-down": Design("FPN, top-down × 0.5", partial(_fpn, top_down_scale=0.5)),
    "fpn-bare-laterals": Design("FPN, no norm on laterals", partial(_fpn, lateral_norm=False)),
    "hierarchy-shared-head": Design("hierarchy, shared head", _hierarchy),
}


def build_detector(
    design: str,
    classes: Sequence[str],
    *,
    in_channels: int = 1,
    layers: Sequence[int] = (1, 1, 1, 1),
    width: int = 16,
    levels: Sequence[int] = (2, 3, 4, 5),
    channels: int = 32,
    scale: float = 2.5,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
) -> PyramidDetector:
    """A small detector of one of `DESIGNS`, drawn from tinynet's generator.

    Args:
        classes: their names.
        in_channels: of the images.
        layers, width: of `SmallResNet`.
        levels: of the pyramid, 2 (stride 4) to 5 (stride 32), finest first.
        channels: of neck and head.
        scale, mean, std, options: of `PyramidDetector`.

    Raises:
        ValueError: an unknown design, or levels that are not some of 2 to 5, finest first.
    """
    if design not in DESIGNS:
        raise ValueError(f"unknown design {design!r}; there is {', '.join(DESIGNS)}")
    if not levels or list(levels) != [level for level in (2, 3, 4, 5) if level in levels]:
        raise ValueError(f"levels must be some of 2 to 5, finest first, got {list(levels)}")
    backbone = SmallResNet(layers, width, in_channels)
    chosen = DESIGNS[design]

    def body(numbers: Sequence[int]) -> FeatureMaps:
        return FeatureMaps(backbone, [f"C{number}" for number in numbers])

    return PyramidDetector(
        chosen.build(body, levels, channels), classes, channels, scale, chosen.own_heads,
        (0.0,) * in_channels if mean is None else mean, (1.0,) * in_channels if std is None else std, **options,
    )  # fmt: skip
