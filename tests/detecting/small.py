"""Small scenes and trainings of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tinynet
from tinynet.data import HandwritingScenes
from tinynet.detecting import DetectionTrainer, Splits, build_trainer, new_config

EPOCHS = 3


def scenes(images: int = 16, size: int = 64, classes: int = 1) -> Splits:
    train, test = (HandwritingScenes(part, count=images, size=size, classes=classes) for part in (True, False))
    return Splits(train, test, test)


def make_trainer(design: str = "fpn", path: Path | None = None, seed: int = 0, splits: Splits | None = None,
                 epochs: int = EPOCHS) -> DetectionTrainer:
    return build_trainer(new_config(design, "scenes", epochs, seed), splits or scenes(), path)


def bits(trainer: DetectionTrainer) -> dict[str, bytes]:
    """Everything that the next epoch depends on."""
    state = {f"model.{name}": value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}
    for index, values in trainer.optimizer.state_dict()["state"].items():
        state |= {f"{index}.{name}": value.numpy().tobytes() for name, value in values.items()}
    state["generator"] = tinynet.get_rng_state().numpy().tobytes()
    state["rates"] = repr(trainer.scheduler.get_last_lr()).encode()
    return state


def results(trainer: DetectionTrainer) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in trainer.history]
