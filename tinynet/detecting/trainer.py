"""The fit loop for detectors, and their average precision on a data set."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import tinynet
from tinynet import ranks
from tinynet.data import collate_detection
from tinynet.data.detection import DetectionDataset
from tinynet.detection import AveragePrecision
from tinynet.detection.pyramid_detector import PyramidDetector
from tinynet.optim import Optimizer
from tinynet.optim.lr_scheduler import LRScheduler
from tinynet.training import FitLoop, Row, Step
from tinynet.utils.data import DataLoader
from tinynet.utils.progress import progress

EVALUATION_BATCH = 8
HISTORY_COLUMNS = (
    "epoch", "loss", "classification", "box", "AP", "AP50", "learning_rate", "seconds", "evaluation_seconds",
)  # fmt: skip


class DetectionTrainer(FitLoop):
    """Trains a `PyramidDetector` with its own losses.

    Args:
        model, optimizer, scheduler, options: of `FitLoop`.
        train_loader: batches of `collate_detection`.
        held_out: data whose AP is measured after every `evaluate_every` epochs and the last of `epochs`.

    `history` has HISTORY_COLUMNS: losses as means over the epoch, AP and AP50 on `held_out` (NaN where an epoch was
    not measured), and seconds of which `evaluation_seconds` went into that.
    """

    columns = HISTORY_COLUMNS

    def __init__(
        self,
        model: PyramidDetector,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        train_loader: DataLoader,
        held_out: DetectionDataset,
        epochs: int,
        evaluate_every: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, optimizer, scheduler, train_loader, **options)
        self.held_out = held_out
        self.epochs = epochs
        self.evaluate_every = evaluate_every

    def step(self, batch: Any) -> Step:
        images, targets = batch
        losses = self.model.loss(images, targets)
        count = len(images)
        return Step(sum(losses.values()), count, {name: count * value.item() for name, value in losses.items()})

    def measure(self) -> Row:
        started = time.perf_counter()
        finished = self.epoch + 1
        precision = {"AP": math.nan, "AP50": math.nan}
        if finished % self.evaluate_every == 0 or finished == self.epochs:
            metrics = evaluate(self.model, self.held_out, quiet=True).compute()
            precision = {name: metrics[name] for name in precision}
        return {**precision, "evaluation_seconds": time.perf_counter() - started}

    def shown(self, means: Row) -> dict[str, str]:
        known = [row["AP"] for row in self.history if not math.isnan(row["AP"])]
        return {**super().shown(means), **({"AP": f"{known[-1]:.3f}"} if known else {})}

    def described(self, row: Row) -> str:
        return f"AP {row['AP']:.3f}   AP50 {row['AP50']:.3f}" if not math.isnan(row["AP"]) else f"{'':20}"


def detect_all(model: PyramidDetector, dataset: DetectionDataset, quiet: bool = False) -> list[dict[str, Any]]:
    """The detections in every image of a data set, in its order; the model is in evaluation mode afterwards.

    Several ranks take turns batch by batch, and all get what all have found.
    """
    model.eval()
    found: list[list[dict[str, Any]]] = []
    size = len(dataset)
    whole = [range(start, min(start + EVALUATION_BATCH, size)) for start in range(0, size, EVALUATION_BATCH)]
    mine = whole[ranks.number() :: ranks.count()]
    # A loader draws a seed even if nothing is random: not from the generator that the training goes on with.
    loader = DataLoader(dataset, batch_sampler=mine, collate_fn=collate_detection, generator=tinynet.Generator())
    # Bars inside of a training's own would tear it.
    batches = loader if quiet else progress(loader, desc="detecting", unit="batch", delay=1)
    for images, _ in batches:
        found.append(model.detect(images))
    everyone = ranks.gathered(found)
    return [image for batch in range(len(whole)) for image in everyone[batch % ranks.count()][batch // ranks.count()]]


def average_precision_of(found: Sequence[dict[str, Any]], dataset: DetectionDataset) -> AveragePrecision:
    """COCO's metrics of detections in every image of a data set. Raises ImportError without pycocotools."""
    measured = AveragePrecision(dataset.classes, dataset.size_limits)
    measured.update(found, [dataset.annotation(index) for index in range(len(dataset))])
    return measured


def evaluate(model: PyramidDetector, dataset: DetectionDataset, quiet: bool = False) -> AveragePrecision:
    """COCO's metrics of a model on a data set."""
    with tinynet.no_grad():
        return average_precision_of(detect_all(model, dataset, quiet), dataset)
