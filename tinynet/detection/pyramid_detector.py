"""A detector small enough to train from scratch on a CPU: a narrow ResNet, any pyramid, one head for all levels.

The head is FCOS's (Tian et al. 2019, arXiv 1904.01355) without centreness: every cell of every level says which
class is there and where the box is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

import tinynet
from tinynet import Tensor, cat, exp, from_numpy, nn
from tinynet.detection.anchors import anchor_points
from tinynet.detection.assignment import assign_batch
from tinynet.detection.heads import PRIOR_PROBABILITY, per_anchor, prior_bias
from tinynet.detection.losses import generalized_box_iou_loss, sigmoid_focal_loss
from tinynet.detection.suppression import batched_nms
from tinynet.detection.targets import check_images, check_targets
from tinynet.models.pyramids import FPN, FeaturizedImagePyramid, PyramidalFeatureHierarchy, SingleFeatureMap
from tinynet.models.resnet import Bottleneck, ResNet, conv1x1, conv3x3
from tinynet.nn import functional as F

__all__ = ["LevelOutput", "PyramidDetector", "SharedHead", "SmallResNet"]

DIVISOR = 32  # batches are padded to multiples of the coarsest stride
TYPICAL_SIZE = 0.75  # of a level's largest objects: what a box is predicted relative to
LARGEST_EXPONENT = 4.0  # boxes of up to e⁴ times that size; beyond, an untrained net could overflow
BOX_WEIGHT = 2.0  # of the GIoU loss beside the focal loss

Target = dict[str, Tensor]
Detections = dict[str, Tensor]


class SmallResNet(ResNet):
    """A bottleneck ResNet `width` / 64 as wide as ResNet-50, on a stem of 3×3, as a backbone: without `fc`.

    (N, in_channels, H, W) through conv1, stride 2, and the max pool to C2 to C5 of strides 4 to 32, with 4, 8, 16
    and 32 times `width` channels. `layers` counts the blocks of the four stages.
    """

    def __init__(self, layers: Sequence[int] = (1, 1, 1, 1), width: int = 16, in_channels: int = 3) -> None:
        nn.Module.__init__(self)  # not ResNet's: it would draw 20 million weights first
        if len(layers) != 4 or min(layers) < 1:
            raise ValueError(f"SmallResNet: layers must count the blocks of four stages, got {list(layers)}")
        self.in_channels = in_channels
        self.conv1 = conv3x3(in_channels, width, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inplanes = width
        for stage, blocks in enumerate(layers):
            planes, stride = width * 2**stage, 1 if stage == 0 else 2
            setattr(self, f"layer{stage + 1}", _stage(inplanes, planes, blocks, stride))
            inplanes = planes * Bottleneck.expansion
        _draw_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """The last map, C5; `FeatureMaps` gives all."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _stage(inplanes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    out = planes * Bottleneck.expansion
    downsample = nn.Sequential(conv1x1(inplanes, out, stride), nn.BatchNorm2d(out))
    others = [Bottleneck(out, planes) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inplanes, planes, stride, downsample), *others)


def _draw_weights(model: nn.Module) -> None:
    """He's normal initialisation of all convolutions."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class LevelOutput(NamedTuple):
    """What the head says of one level: `values` (N, K + 4, h, w), logits of the classes and offsets of the boxes.

    The cell in row i and column j has the box whose centre is stride·(j + 1/2 + offsets[0], i + 1/2 + offsets[1])
    and whose width and height are .75·scale·stride·exp(offsets[2:]), in pixels of the batch.
    """

    name: str
    stride: float
    values: Tensor

    @property
    def logits(self) -> Tensor:
        """(N, K, h, w)."""
        return self.values[:, :-4]

    @property
    def offsets(self) -> Tensor:
        """(N, 4, h, w)."""
        return self.values[:, -4:]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[2], self.values.shape[3]


class SharedHead(nn.Module):
    """Two 3×3 convolutions with norm and ReLU and one that predicts: the same weights on all levels, but norms of
    each level's own, because levels differ in their statistics.

    `own_weights`: every level has its own convolutions too, as in a pyramidal feature hierarchy (SSD).
    Outputs per level are (N, num_classes + 4, h, w).
    """

    def __init__(
        self, channels: int, num_classes: int, levels: int, convolutions: int = 2, own_weights: bool = False
    ) -> None:
        super().__init__()
        copies = levels if own_weights else 1
        self.convolutions = nn.ModuleList(
            [nn.ModuleList([conv3x3(channels, channels) for _ in range(convolutions)]) for _ in range(copies)]
        )
        _draw_weights(self)
        self.norms = nn.ModuleList(
            [nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(convolutions)]) for _ in range(levels)]
        )
        self.predictors = nn.ModuleList([_predictor(channels, num_classes) for _ in range(copies)])

    def forward(self, x: Tensor, level: int) -> Tensor:
        weights = level if len(self.predictors) > 1 else 0
        for convolution, norm in zip(self.convolutions[weights], self.norms[level]):
            x = F.relu(norm(convolution(x)), inplace=True)
        return self.predictors[weights](x)


def _predictor(channels: int, num_classes: int) -> nn.Conv2d:
    made = nn.Conv2d(channels, num_classes + 4, kernel_size=3, padding=1)
    nn.init.normal_(made.weight, std=0.01)
    nn.init.constant_(made.bias, 0.0)
    with tinynet.no_grad():
        made.bias[:num_classes] = prior_bias(PRIOR_PROBABILITY)
    return made


class Projection(nn.Module):
    """A 1×1 to `channels` from each of the maps `given`, by their channels, or one for all levels, and for each level
    a norm of its own: (N, given, H, W) and the level's number to (N, channels, H, W).
    """

    def __init__(self, given: Sequence[int], channels: int, levels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([conv1x1(count, channels) for count in given])
        _draw_weights(self)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(levels)])

    def forward(self, x: Tensor, level: int) -> Tensor:
        return self.norms[level](self.convolutions[min(level, len(self.convolutions) - 1)](x))


class PyramidDetector(nn.Module):
    """Images to detections through one of the designs of `tinynet.models.pyramids`; `DESIGNS` builds them.

    ``forward(images)`` gives a `LevelOutput` for each level, ``loss(images, targets)`` the losses, ``detect(images)``
    the detections. Images are (N, C, H, W) or a list of (C, H, W) of any sizes, from 0 to 1; the detector
    standardises them and pads them with the mean, at the bottom and at the right, to a common multiple of 32.
    Targets are dicts of "boxes" (M, 4), x1, y1, x2, y2 in pixels, and "labels" (M,) int64; class 0 is a class.

    Args:
        pyramid: a design on a body of `FeatureMaps`.
        classes: their names.
        channels: of every level; designs without a pyramid network get a 1×1 with norm that brings them there.
        scale: a level of stride s answers for objects whose sqrt(area) is in [scale·s/2, scale·s).
        own_heads: every level has a head of its own.
        mean, std: of each channel of the images.
        score_thresh, nms_thresh, detections_per_img, topk_candidates: of `detect`.
    """

    def __init__(
        self,
        pyramid: nn.Module,
        classes: Sequence[str],
        channels: int = 32,
        scale: float = 2.5,
        own_heads: bool = False,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        score_thresh: float = 0.02,
        nms_thresh: float = 0.6,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"PyramidDetector: mean {list(mean)} and std {list(std)} must have a value, std > 0, "
                             "for each channel")  # fmt: skip
        self.pyramid = pyramid
        self.classes = tuple(classes)
        self.scale = scale
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.topk_candidates = topk_candidates
        self.strides = level_strides(pyramid)
        self.projection = None if isinstance(pyramid, FPN) else _projection(pyramid, channels, len(self.strides))
        self.head = SharedHead(channels, len(self.classes), len(self.strides), own_weights=own_heads)

    # What goes in

    def batch(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """(N, C, H, W), standardised, with 0 as padding. Raises what `check_images` does."""
        images = list(images)
        check_images(images, len(self.mean))
        arrays = [image._array for image in images]
        height, width = (max(array.shape[axis] for array in arrays) for axis in (1, 2))
        size = -(-height // DIVISOR) * DIVISOR, -(-width // DIVISOR) * DIVISOR
        result = np.zeros((len(arrays), len(self.mean), *size), arrays[0].dtype)
        shift, factor = (np.array(each, result.dtype)[:, None, None] for each in (self.mean, np.divide(1, self.std)))
        for place, array in zip(result, arrays):
            inside = place[:, : array.shape[1], : array.shape[2]]
            np.subtract(array, shift, out=inside)
            inside *= factor
        return from_numpy(result)

    def forward(self, images: Tensor | Sequence[Tensor], only: int | None = None) -> list[LevelOutput]:
        """The outputs of all levels, finest first, or of an image pyramid those of the level `only`."""
        x = self.batch(images)
        levels = self.pyramid(x) if only is None else self.pyramid(x, only)
        first = 0 if only is None else only
        outputs = []
        for number, level in enumerate(levels, first):
            features = level.features
            if self.projection is not None:
                features = self.projection(features, number)
            outputs.append(LevelOutput(level.name, level.stride, self.head(features, number)))
        return outputs

    # Training

    def loss(self, images: Tensor | Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses "classification" (focal) and "box" (2·GIoU), to be added: summed over the batch and divided by
        its positive cells, at least 1.

        An image pyramid sees one of its copies, drawn anew each time, with the objects of that size alone.

        Raises:
            ValueError, TypeError, ShapeError, LabelError: what `check_images` and `check_targets` refuse.
        """
        images = list(images)
        check_targets(targets, images, len(self.classes), background=False)
        only = None
        if isinstance(self.pyramid, FeaturizedImagePyramid):
            only = int(tinynet.randint(0, len(self.strides), (1,)).item())
        outputs = self(images, only)
        matched = self._matched(outputs, targets, only)
        positive = matched >= 0
        count = max(1, int(positive.sum()))
        logits, offsets = _rows(outputs)
        labels = np.concatenate([target["labels"]._array for target in targets])
        boxes = np.concatenate([target["boxes"]._array for target in targets])
        wanted = np.zeros(tuple(logits.shape), logits._array.dtype)
        wanted[(*np.nonzero(positive), labels[matched[positive]])] = 1
        cells = np.nonzero(positive)[1]
        predicted = self._decode(offsets[from_numpy(positive)], outputs, cells)
        truth = from_numpy(boxes[matched[positive]].astype(logits._array.dtype, copy=False))
        return {
            "classification": sigmoid_focal_loss(logits, from_numpy(wanted), reduction="sum") / count,
            "box": generalized_box_iou_loss(predicted, truth, reduction="sum") * (BOX_WEIGHT / count),
        }

    def _matched(self, outputs: Sequence[LevelOutput], targets: Sequence[Target], only: int | None) -> np.ndarray:
        """(N, cells): which of all boxes of the batch each cell is to find, or -1."""
        grids = [output.grid for output in outputs]
        boxes = [target["boxes"] for target in targets]
        if only is None:
            return assign_batch(boxes, grids, self.strides, scale=self.scale)._array
        # The other levels' objects go to the other levels' cells, of which there are none here.
        height, width = (side * outputs[0].stride for side in grids[0])
        every = [(round(height / stride), round(width / stride)) for stride in self.strides]
        counts = [rows * columns for rows, columns in every]
        matched = assign_batch(boxes, every, self.strides, scale=self.scale)._array
        first = sum(counts[:only])
        return matched[:, first : first + counts[only]]

    def _decode(self, offsets: Tensor, outputs: Sequence[LevelOutput], cells: np.ndarray) -> Tensor:
        """(M, 4) boxes from the offsets (M, 4) of the given cells (M,), counted through the levels."""
        centres, strides = _grid(tuple((output.grid, output.stride) for output in outputs))
        dtype = offsets._array.dtype
        stride = from_numpy(strides[cells].astype(dtype))
        centre = from_numpy(centres[cells].astype(dtype)) + stride * offsets[:, :2]
        half = (stride * (0.5 * TYPICAL_SIZE * self.scale)) * exp(offsets[:, 2:].clamp(max=LARGEST_EXPONENT))
        return cat([centre - half, centre + half], 1)

    # Detecting

    def detect(self, images: Tensor | Sequence[Tensor]) -> list[Detections]:
        """For each image a dict of "boxes" (D, 4) in its pixels, "scores" (D,), descending, and "labels" (D,) int64.

        Of the `topk_candidates` best scores above `score_thresh`, what class-wise NMS leaves, at most
        `detections_per_img`. Call `eval()` before: norms are used as they are.
        """
        with tinynet.no_grad():
            outputs = self(images)
            logits, offsets = _rows(outputs)
            scores = logits.sigmoid()._array
            found = []
            for index in range(len(scores)):
                height, width = images[index].shape[-2:]
                found.append(self._detected(scores[index], offsets[index], outputs, height, width))
            return found

    def _detected(
        self, scores: np.ndarray, offsets: Tensor, outputs: Sequence[LevelOutput], height: int, width: int
    ) -> Detections:
        cells, labels = np.nonzero(scores > self.score_thresh)
        chosen = scores[cells, labels]
        best = np.argsort(-chosen, kind="stable")[: self.topk_candidates]
        cells, labels, chosen = cells[best], labels[best], chosen[best]
        boxes = self._decode(offsets[from_numpy(cells)], outputs, cells)._array
        boxes = boxes.clip(0, np.array([width, height] * 2, boxes.dtype))
        parts = from_numpy(boxes), from_numpy(chosen), from_numpy(labels)
        keep = batched_nms(*parts, self.nms_thresh)[: self.detections_per_img]
        return {name: part[keep] for name, part in zip(("boxes", "scores", "labels"), parts)}


def level_strides(pyramid: nn.Module) -> tuple[float, ...]:
    """The stride of each level that a design gives out, finest first."""
    own = list(pyramid.body.strides.values())
    if isinstance(pyramid, FeaturizedImagePyramid):
        return tuple(own[-1] * 2.0**step for step in range(-pyramid.up, pyramid.down + 1))
    if isinstance(pyramid, FPN) and pyramid.finest_only:
        return tuple(own[:1])
    return tuple(own[-1:] if isinstance(pyramid, SingleFeatureMap) else own)


def _projection(pyramid: nn.Module, channels: int, levels: int) -> Projection:
    """From each of the backbone's maps that the design uses."""
    given = list(pyramid.body.channels.values())
    return Projection(given if isinstance(pyramid, PyramidalFeatureHierarchy) else given[-1:], channels, levels)


def _rows(outputs: Sequence[LevelOutput]) -> tuple[Tensor, Tensor]:
    """Logits (N, cells, K) and offsets (N, cells, 4) of all levels together."""
    rows = cat([per_anchor(output.values, output.values.shape[1]) for output in outputs], dim=1)
    return rows[:, :, :-4], rows[:, :, -4:]


@lru_cache(64)
def _grid(levels: tuple[tuple[tuple[int, int], float], ...]) -> tuple[np.ndarray, np.ndarray]:
    """The centres (cells, 2) as x, y and the strides (cells, 1) of all cells of levels (rows and columns, stride)."""
    strides = [stride for _, stride in levels]
    points = anchor_points([grid for grid, _ in levels], strides, offset=0.5)
    repeated = np.repeat(np.array(strides, np.float32), [len(each) for each in points])
    return np.concatenate([each._array for each in points]), repeated[:, None]
