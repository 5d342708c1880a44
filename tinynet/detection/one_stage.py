"""What RetinaNet and FCOS share: images in, losses or detections out (torchvision, models/detection/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinynet import Tensor, cat, nn
from tinynet.detection.anchors import AnchorGenerator
from tinynet.detection.boxes import clip_boxes_to_image
from tinynet.detection.image_list import ImageList
from tinynet.detection.suppression import batched_nms
from tinynet.detection.targets import check_images, check_targets
from tinynet.detection.transform import GeneralizedRCNNTransform, ImageSize, Targets

__all__ = ["OneStageDetector"]

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
Outputs = dict[str, Tensor]  # of a head: by name, (N, anchors, columns)


class OneStageDetector(nn.Module):
    """A backbone with a pyramid, and one head that reads every level of it at every anchor.

    ``forward(images, targets)``: images are a list of floating tensors (C, H, W) from 0 to 1, of any sizes.

    - In training mode, targets are needed: for each image a dict of "boxes" (M, 4), x1, y1, x2, y2 in pixels, and
      "labels" (M,) int64. M may be 0. The result is a dict of losses, scalars to be added.
    - In evaluation mode, the result is a list with a dict for each image: "boxes" (D, 4) in its pixels, "scores"
      (D,) in descending order, "labels" (D,) int64. Targets are ignored.

    A subclass says what a score is (`score`), how boxes are read (`decode`), and what the losses are (`losses`).

    Raises:
        ValueError, TypeError, ShapeError, LabelError: images or targets that do not fit; see `check_images` and
            `check_targets` in targets.py.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        anchor_generator: AnchorGenerator,
        head: nn.Module,
        transform: GeneralizedRCNNTransform,
        score_thresh: float,
        nms_thresh: float,
        detections_per_img: int,
        topk_candidates: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.head = head
        self.transform = transform
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.topk_candidates = topk_candidates

    def score(self, outputs: Outputs) -> Tensor:
        """(anchors, num_classes) scores from 0 to 1 of one image on one level."""
        raise NotImplementedError

    def decode(self, bbox_regression: Tensor, anchors: Tensor) -> Tensor:
        """(D, 4) boxes from what the head says about (D, 4) anchors."""
        raise NotImplementedError

    def losses(self, targets: Targets, outputs: Outputs, anchors: list[Tensor], sizes: list[int]) -> Outputs:
        """The losses by name; `sizes` counts the positions of each level."""
        raise NotImplementedError

    def forward(self, images: Sequence[Tensor], targets: Targets | None = None) -> Outputs | list[Outputs]:
        images = list(images)
        check_images(images, len(self.transform.image_mean))
        if self.training:
            check_targets(targets, images, self.num_classes)
        else:
            targets = None
        batch, targets = self.transform(images, targets)
        features = self.backbone(batch.tensors)
        levels = [features] if isinstance(features, Tensor) else list(features.values())
        outputs = self.head(levels)
        anchors = self.anchor_generator(batch, levels)
        sizes = [level.shape[-2] * level.shape[-1] for level in levels]
        if targets is not None:
            return self.losses(targets, outputs, anchors, sizes)
        return self._detections(images, batch, outputs, anchors, sizes)

    def _detections(
        self, images: Sequence[Tensor], batch: ImageList, outputs: Outputs, anchors: list[Tensor], sizes: list[int]
    ) -> list[Outputs]:
        per_position = len(anchors[0]) // sum(sizes)
        rows = [size * per_position for size in sizes]
        by_level = {name: value.split(rows, dim=1) for name, value in outputs.items()}
        found = self.postprocess_detections(by_level, [each.split(rows) for each in anchors], batch.image_sizes)
        originals = [(image.shape[-2], image.shape[-1]) for image in images]
        return self.transform.postprocess(found, batch.image_sizes, originals)

    def postprocess_detections(
        self,
        head_outputs: Mapping[str, Sequence[Tensor]],
        anchors: Sequence[Sequence[Tensor]],
        image_shapes: Sequence[ImageSize],
    ) -> list[Outputs]:
        """Detections in the pixels of the batch, best first.

        Of each level the `topk_candidates` best scores above `score_thresh` are decoded and clipped to the image
        without its padding; of all levels together what class-wise NMS leaves, at most `detections_per_img`.

        Args:
            head_outputs: by name, for each level (N, anchors, columns).
            anchors: for each image, for each level (anchors, 4).
            image_shapes: (height, width) of each image before padding.
        """
        detections = []
        for index, shape in enumerate(image_shapes):
            levels = [
                self._candidates({name: value[level][index] for name, value in head_outputs.items()}, each, shape)
                for level, each in enumerate(anchors[index])
            ]
            boxes, scores, labels = [cat(parts) for parts in zip(*levels)]
            keep = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
            detections.append({"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]})
        return detections

    def _candidates(self, outputs: Outputs, anchors: Tensor, shape: ImageSize) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes, scores and labels that one level proposes for one image."""
        scores = self.score(outputs)
        num_classes = scores.shape[-1]
        scores = scores.flatten()
        kept = (scores > self.score_thresh).nonzero(as_tuple=True)[0]
        scores, best = scores[kept].topk(min(self.topk_candidates, len(kept)))
        kept = kept[best]
        rows, labels = kept // num_classes, kept % num_classes
        boxes = self.decode(outputs["bbox_regression"][rows], anchors[rows])
        return clip_boxes_to_image(boxes, shape), scores, labels


def checked_backbone(backbone: nn.Module) -> int:
    """The channels of a backbone's maps. Raises ValueError where it does not say them."""
    if not hasattr(backbone, "out_channels"):
        raise ValueError(
            "backbone should contain an attribute out_channels, the number of channels of each map that it returns"
        )
    return backbone.out_channels


def checked_anchors(anchor_generator: Any, sizes: tuple[tuple[int, ...], ...], ratios: tuple[float, ...]) -> Any:
    """The generator that was given, or one with `sizes` for each level and `ratios` for all.

    Raises TypeError if it is no AnchorGenerator.
    """
    if anchor_generator is None:
        return AnchorGenerator(sizes, (ratios,) * len(sizes))
    if not isinstance(anchor_generator, AnchorGenerator):
        raise TypeError(
            f"anchor_generator should be of type AnchorGenerator or None, got {type(anchor_generator).__name__}"
        )
    return anchor_generator
