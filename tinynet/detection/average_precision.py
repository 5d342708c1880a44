"""How good a detector is: COCO's average precision through pycocotools, and the same in forty lines.

Predictions and targets come per image as dictionaries of tensors or arrays: "boxes" (n, 4) as x1, y1, x2, y2,
"labels" (n,) integers, and for predictions "scores" (n,).

COCO's protocol: in each image and class the detections, best first, each take the object they overlap most among
those still free, if the IoU reaches the threshold. All of a class sorted by score then give a curve of precision over
recall, and AP is the mean of its upper envelope at 101 recalls.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinynet import Tensor, as_tensor
from tinynet.detection.boxes import box_iou, require_boxes, require_ordered
from tinynet.errors import DtypeError, LabelError, ShapeError
from tinynet.utils.interrupts import interrupts_kept

__all__ = ["AveragePrecision", "average_precision"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = ("small", "medium", "large")

Image = Mapping[str, Any]


def average_precision(
    predictions: Sequence[Image],
    targets: Sequence[Image],
    iou_thresholds: Sequence[float] | np.ndarray = IOU_THRESHOLDS,
    max_detections: int = 100,
) -> dict[int, np.ndarray]:
    """COCO's AP of every class that has objects, one value per IoU threshold; all objects count, crowds too."""
    images = [(_arrays(prediction), _arrays(target)) for prediction, target in zip(predictions, targets, strict=True)]
    result = {}
    for label in sorted({int(label) for _, target in images for label in target["labels"]}):
        hits, scores, objects = [], [], 0
        for prediction, target in images:
            mine, truth = prediction["labels"] == label, target["boxes"][target["labels"] == label]
            order = np.argsort(-prediction["scores"][mine], kind="stable")[:max_detections]
            hits.append(_hits(prediction["boxes"][mine][order], truth, iou_thresholds))
            scores.append(prediction["scores"][mine][order])
            objects += len(truth)
        best_first = np.argsort(-np.concatenate(scores), kind="stable")
        result[label] = np.array([_area(found, objects) for found in np.concatenate(hits, axis=1)[:, best_first]])
    return result


def _hits(boxes, truth, iou_thresholds) -> np.ndarray:
    """Which boxes (best first) find an object of their own, per threshold: each takes the best that is free."""
    hits = np.zeros((len(iou_thresholds), len(boxes)), bool)
    ious = np.nan_to_num(box_iou(as_tensor(boxes), as_tensor(truth)).numpy())
    for hit, threshold in zip(hits, iou_thresholds if len(truth) else ()):
        free = np.ones(len(truth), bool)
        for index, iou in enumerate(ious):
            best = len(truth) - 1 - np.where(free, iou, -1)[::-1].argmax()  # of equal ones the last, as COCO
            hit[index] = free[best] and iou[best] >= threshold
            free[best] &= not hit[index]
    return hits


def _area(found, objects) -> float:
    """The mean, over 101 recalls, of the best precision at that recall or a higher one."""
    precision, recall = found.cumsum() / np.arange(1, len(found) + 1), found.cumsum() / objects
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)  # a recall never reached has precision 0
    return float(best[np.searchsorted(recall, RECALLS)].mean())


def _arrays(image: Image) -> dict[str, np.ndarray]:
    """The entries of an image as arrays; boxes and scores in float64, where differences are exact."""
    arrays = {key: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
              for key, value in image.items()}  # fmt: skip
    return {key: array.astype(np.float64) if key in ("boxes", "scores") else array for key, array in arrays.items()}


class AveragePrecision:
    """Collects detections image by image and computes COCO's metrics with pycocotools (the extra "detect").

    `classes` names the labels, a list (label 0 first) or a mapping from labels; other labels are then refused.
    Objects are small below the first of `size_limits` (square roots of areas, in pixels) and large above the
    second; `area_limits` gives areas instead. On a limit an object counts on both sides. Of each image and class
    the `max_detections` best count.

    A target may also hold "iscrowd" (n,): regions where any number of detections is neither right nor wrong;
    "difficult" (n,): objects that need not be found; and "area" (n,), which else is the box's.
    """

    def __init__(
        self,
        classes: Sequence[str] | Mapping[int, str] | None = None,
        size_limits: tuple[float, float] = (32, 96),
        area_limits: tuple[float, float] | None = None,
        max_detections: int = 100,
    ) -> None:
        try:
            import pycocotools.cocoeval  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'AveragePrecision needs pycocotools, which the extra "detect" brings: pip install ".[detect]" '
                "(tinynet.detection.average_precision computes the same AP without it)"
            ) from error
        limits = tuple(limit**2 for limit in size_limits) if area_limits is None else tuple(area_limits)
        if len(limits) != 2 or not 0 < limits[0] < limits[1] < math.inf:
            raise ValueError(
                "AveragePrecision: the two limits between small, medium and large must be positive and grow, got "
                f"{size_limits if area_limits is None else area_limits}"
            )
        if max_detections < 1:
            raise ValueError(f"AveragePrecision: max_detections must be at least 1, got {max_detections}")
        if classes is not None and not isinstance(classes, Mapping):
            classes = dict(enumerate(classes))
        self.classes: Mapping[int, str] | None = classes
        self.area_limits = limits
        self.max_detections = int(max_detections)
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self.images = 0
        self._objects: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []
        self._evaluated: dict[str, Any] | None = None

    def update(self, predictions: Sequence[Image], targets: Sequence[Image]) -> None:
        """Adds images: for each, a dictionary of detections and one of the objects that are there.

        Raises ValueError, ShapeError, DtypeError or LabelError, with the image's position; nothing is then added.
        """
        if len(predictions) != len(targets):
            raise ValueError(
                f"AveragePrecision.update: {len(predictions)} images predicted, targets of {len(targets)}"
            )
        name = "AveragePrecision.update:"
        more = ("iscrowd", "area", "difficult")
        found = [self._checked(f"{name} predictions[{i}]", row, ("scores",), ()) for i, row in enumerate(predictions)]
        there = [self._checked(f"{name} targets[{i}]", row, (), more) for i, row in enumerate(targets)]
        for prediction, target in zip(found, there):
            self.images += 1
            self._detections += self._annotations(prediction, len(self._detections))
            self._objects += self._annotations(target, len(self._objects))
        self._evaluated = None

    def _checked(self, name: str, image: Image, needed: tuple, optional: tuple) -> dict[str, np.ndarray]:
        missing = [key for key in ("boxes", "labels", *needed) if key not in image]
        if missing:
            raise ValueError(f"{name} has no {' and no '.join(map(repr, missing))}, only {sorted(image)}")
        arrays = _arrays({key: image[key] for key in ("boxes", "labels", *needed, *optional) if key in image})
        if arrays["boxes"].size == 0:
            arrays["boxes"] = arrays["boxes"].reshape(-1, 4)
        require_boxes(name, "boxes", as_tensor(arrays["boxes"]))
        require_ordered(name, arrays["boxes"])
        count = len(arrays["boxes"])
        for key, array in arrays.items():
            if key != "boxes" and array.shape != (count,):
                raise ShapeError(f"{name}: {count} boxes need {key} of shape ({count},), got {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: {int((~np.isfinite(array)).sum())} of {array.size} {key} are not finite")
        labels = arrays["labels"]
        if count and labels.dtype.kind not in "iu":
            raise DtypeError(f"{name}: labels must be integers, got {labels.dtype}")
        for label in np.unique(labels) if self.classes is not None else ():
            if int(label) not in self.classes:  # type: ignore[operator]
                raise LabelError(f"{name}: label {label} is not one of the classes {sorted(self.classes)}")  # type: ignore[arg-type]
        return arrays

    def _annotations(self, image: dict[str, np.ndarray], known: int) -> list[dict[str, Any]]:
        """The boxes of an image as COCO's dictionaries, numbered on from those that are known."""
        boxes = image["boxes"]
        sizes = boxes[:, 2:] - boxes[:, :2]
        columns = {
            "category_id": image["labels"].astype(np.int64),
            "bbox": np.concatenate([boxes[:, :2], sizes], axis=1),
            "area": image.get("area", sizes.prod(axis=1)),
            "iscrowd": image.get("iscrowd", np.zeros(len(boxes))).astype(np.int64),
            "difficult": image.get("difficult", np.zeros(len(boxes))).astype(np.int64),
            "score": image.get("scores", np.zeros(len(boxes))),
        }
        rows = zip(*(column.tolist() for column in columns.values()))
        common = {"image_id": self.images}
        return [common | {"id": known + 1 + i} | dict(zip(columns, row)) for i, row in enumerate(rows)]

    def _evaluate(self) -> dict[str, Any]:
        """pycocotools' result: precision (thresholds, recalls, classes, sizes, 1), recall without the second."""
        if self._evaluated is None:
            if not self.images:
                raise ValueError("AveragePrecision: no images yet; call update(predictions, targets) first")
            from pycocotools.cocoeval import COCOeval

            # accumulate() has a bare `except:`, which would take a Ctrl-C for a recall that was not reached.
            with interrupts_kept(), contextlib.redirect_stdout(io.StringIO()):
                evaluation = COCOeval(self._coco(self._objects), self._coco(self._detections), "bbox")
                first, second = self.area_limits
                everything = 1e10
                parameters = evaluation.params
                parameters.areaRng = [[0, everything], [0, first], [first, second], [second, everything]]
                parameters.areaRngLbl = ["all", *SIZES]
                parameters.maxDets = [self.max_detections]
                _need_not_find_the_difficult(evaluation)
                evaluation.evaluate()
                evaluation.accumulate()
            self._evaluated = evaluation.eval
        return self._evaluated

    def _coco(self, annotations: list[dict[str, Any]]) -> Any:
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = {
            "images": [{"id": number + 1} for number in range(self.images)],
            "categories": [{"id": label} for label in self._labels()],
            "annotations": [dict(annotation) for annotation in annotations],  # COCOeval writes into them
        }
        coco.createIndex()
        return coco

    def _labels(self) -> list[int]:
        if self.classes is not None:
            return sorted(int(label) for label in self.classes)
        return sorted({row["category_id"] for rows in (self._objects, self._detections) for row in rows})

    def _names(self) -> list[Any]:
        return [label if self.classes is None else self.classes[label] for label in self._labels()]

    def compute(self) -> dict[str, Any]:
        """The metrics of all images so far, each from 0 to 1, NaN where there is no such object to find.

        "AP" is the mean over IoU thresholds .50 to .95 and classes, "AP50" and "AP75" those at one threshold,
        "AP_small", "AP_medium", "AP_large" those of objects of that size; "AR" (with "AR_small" and so on) is the
        largest recall, averaged likewise. "per_class" has "AP" and "AP50" by class name or label.
        """
        evaluated = self._evaluate()
        precision, recall = evaluated["precision"][..., 0], evaluated["recall"][..., 0]
        result: dict[str, Any] = {
            "AP": _mean(precision[..., 0]), "AP50": _mean(precision[0, ..., 0]), "AP75": _mean(precision[5, ..., 0]),
        }  # fmt: skip
        result |= {f"AP_{size}": _mean(precision[..., index]) for index, size in enumerate(SIZES, 1)}
        result["AR"] = _mean(recall[..., 0])
        result |= {f"AR_{size}": _mean(recall[..., index]) for index, size in enumerate(SIZES, 1)}
        result["per_class"] = {
            name: {"AP": _mean(precision[:, :, k, 0]), "AP50": _mean(precision[0, :, k, 0])}
            for k, name in enumerate(self._names())
        }
        return result

    def precision_recall(self, iou_threshold: float = 0.5) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
        """Per class (by name or label) with objects: 101 recalls, and the best precision at each or beyond.

        `iou_threshold` is one of .50, .55, ..., .95.
        """
        which = np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou_threshold))
        if not len(which):
            raise ValueError(f"precision_recall: iou_threshold must be one of .50, .55 to .95, got {iou_threshold}")
        precision = self._evaluate()["precision"][which[0], :, :, 0, 0]
        return {
            name: (RECALLS.copy(), precision[:, k].copy())
            for k, name in enumerate(self._names())
            if (precision[:, k] >= 0).all()
        }


def _mean(values: np.ndarray) -> float:
    """The mean of what COCO could compute; it marks the rest with -1."""
    known = values[values >= 0]
    return float(known.mean()) if known.size else math.nan


def _need_not_find_the_difficult(evaluation: Any) -> None:
    """Has COCOeval ignore difficult objects; it would derive that from iscrowd alone, which changes the IoU too."""
    prepare = evaluation._prepare

    def prepare_and_ignore() -> None:
        prepare()
        for objects in evaluation._gts.values():
            for row in objects:
                row["ignore"] = row["ignore"] or row["difficult"]

    evaluation._prepare = prepare_and_ignore
