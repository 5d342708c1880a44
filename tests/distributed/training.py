"""A small training, as a program of its own: python -m tests.distributed.training FOLDER EPOCHS [what goes wrong]."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet import nn, optim, ranks
from tinynet.data import RandomShift
from tinynet.training import Trainer
from tinynet.utils.data import DataLoader, TensorDataset

LENGTH = 6  # the schedule's epochs


def blobs(count: int, seed: int) -> TensorDataset:
    """Images whose class is the quarter that is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    images = rng.standard_normal((count, 1, 8, 8))
    for image, label in zip(images, labels):
        image[0, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 2
    return TensorDataset(tinynet.from_numpy(images), tinynet.from_numpy(labels))


def trainer(checkpoint: Path, augmented: bool) -> Trainer:
    """On 70 images in batches of 16, the last of 6; 41 held out in batches of 20, the last of 1."""
    tinynet.manual_seed(3)
    body = (nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = nn.Sequential(*body, nn.Linear(24, 4)).double()
    loader = DataLoader(blobs(70, 0), batch_size=16, shuffle=True)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=LENGTH * len(loader))
    return Trainer(model, optimizer, schedule, loader, DataLoader(blobs(41, 1), batch_size=20),
                   transform=RandomShift(1) if augmented else None, checkpoint=checkpoint)  # fmt: skip


def failing(what: str, fitted: Trainer) -> None:
    """Something that happens to the last rank in the middle of the third epoch."""

    batches = itertools.count()

    def prepare(batch: Any) -> Any:
        if fitted.epoch == 2 and ranks.number() == ranks.count() - 1:
            if what == "killed":
                if next(batches):  # after a step with the first rank, whose checkpoint is written then
                    os.kill(os.getpid(), signal.SIGKILL)
            elif what == "nan":
                batch[0][0] = float("nan")
            else:
                raise OSError(5, "no such luck", "/data/images")
        return batch

    fitted.prepare = prepare  # type: ignore[method-assign]


def main(folder: Path, epochs: int, *words: str) -> None:
    ranks.join()
    fitted = trainer(folder / "checkpoint.safetensors", augmented="augmented" in words)
    if "resume" in words:
        fitted.resume(folder / "checkpoint.safetensors")
    for what in {"killed", "nan", "oserror"} & set(words):
        failing(what, fitted)
    fitted.go_on = "the same, resume"
    fitted.fit(epochs)
    evaluation = fitted.evaluate()
    state = fitted.model.state_dict()
    bits = hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history]
    results = {"values": [float(v) for value in state.values() for v in value.numpy().reshape(-1)], "history": rows,
               "loss": evaluation.loss, "labels": evaluation.labels.tolist(), "bits": ranks.gathered(bits)}  # fmt: skip
    print("RESULT " + json.dumps(results), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
