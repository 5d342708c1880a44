"""A run: from its configuration to a trainer, from a trained detector to a file and back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import tinynet
from tinynet import checkpoint, from_numpy, optim
from tinynet.data import collate_detection
from tinynet.detecting import recipes
from tinynet.detecting.recipes import Splits
from tinynet.detecting.trainer import DetectionTrainer
from tinynet.detection.designs import build_detector
from tinynet.detection.pyramid_detector import PyramidDetector
from tinynet.errors import CheckpointError
from tinynet.training import METADATA_KEY
from tinynet.utils.data import DataLoader

DETECTOR_KEY = "tinynet.detector"  # of a file's metadata: how to build the detector
WEIGHTS = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
MEASURED_EPOCHS = 10  # at most, of a training, by AP on held-out data


def new_config(design: str, name: str, epochs: int | None = None, seed: int = 0, limit: int | None = None,
               layers: tuple[int, ...] | None = None) -> dict[str, Any]:
    """What makes a run what it is: all that JSON keeps of it."""
    recipe = recipes.recipe_for(name)
    return {
        "design": design, "data": name, "epochs": epochs or recipe.epochs, "seed": seed, "limit": limit,
        "layers": list(layers or recipe.layers),
    }  # fmt: skip


def build_trainer(config: Mapping[str, Any], splits: Splits, path: Path | None = None) -> DetectionTrainer:
    """The seeded detector with its data, AdamW and schedule; `path` is its checkpoint's.

    The trainer's `config` also says how to build the detector, below "detector".
    """
    recipe = recipes.recipe_for(config["data"])
    mean, std = recipes.standardisation(config["data"], splits.train)
    detector = {
        "design": config["design"], "classes": list(splits.train.classes), "in_channels": len(mean),
        "layers": list(config["layers"]), "levels": list(recipe.levels), "channels": recipe.channels,
        "scale": recipe.scale, "mean": list(mean), "std": list(std),
    }  # fmt: skip
    tinynet.manual_seed(config["seed"])
    model = build_detector(**detector)
    splits.train.transforms = recipes.augmentation(recipe, mean)
    loader = DataLoader(splits.train, batch_size=recipes.BATCH_SIZE, shuffle=True, collate_fn=collate_detection)
    optimizer = optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipes.WEIGHT_DECAY},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipes.LEARNING_RATE,
    )
    scheduler = warm_up_and_cosine(optimizer, config["epochs"] * len(loader))
    every = max(1, config["epochs"] // MEASURED_EPOCHS)
    kept = {**config, "detector": detector, "longest": recipe.longest}
    return DetectionTrainer(model, optimizer, scheduler, loader, splits.running, config["epochs"], every,
                            clip_norm=recipes.CLIP_NORM, checkpoint=path, config=kept)  # fmt: skip


def warm_up_and_cosine(optimizer: optim.Optimizer, steps: int) -> optim.lr_scheduler.LRScheduler:
    """Linearly up within 100 steps (of a short training a quarter), then down to 0 along a cosine."""
    warm = max(1, min(recipes.WARM_UP, steps // 4))
    up = optim.lr_scheduler.LinearLR(optimizer, 1 / warm, total_iters=warm)
    down = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm))
    return optim.lr_scheduler.SequentialLR(optimizer, [up, down], [warm])


class OpenedDetector(NamedTuple):
    """A detector from a file, in evaluation mode, and the configuration that it was trained with."""

    model: PyramidDetector
    config: dict[str, Any]


def save_detector(model: PyramidDetector, config: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes the weights, and in the metadata all that `open_detector` needs besides. Raises OSError."""
    checkpoint.save_safetensors(model.state_dict(), path, {DETECTOR_KEY: json.dumps(dict(config))})


def open_detector(path: str | os.PathLike[str]) -> OpenedDetector:
    """The detector in a file of `save_detector`, in a training's checkpoint, or in a run's folder.

    Raises:
        CheckpointError: unreadable, damaged, or no such detector.
    """
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS if (path / WEIGHTS).exists() else path / CHECKPOINT
    tensors, metadata = checkpoint.load_safetensors(path)
    state: Mapping[str, Any] = tensors
    try:
        if DETECTOR_KEY in metadata:
            config = json.loads(metadata[DETECTOR_KEY])
        else:
            config = json.loads(metadata[METADATA_KEY])["config"]
            state = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
        model = build_detector(**config["detector"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no detector of `tinynet detect train`") from error
    try:
        model.load_state_dict(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path} does not fit the detector that it describes: {error}") from error
    model.eval()
    return OpenedDetector(model, config)


def detect_photo(
    model: PyramidDetector, photo: Image.Image, longest: int | None = None, score: float = 0.0
) -> dict[str, np.ndarray]:
    """What is found in a photo of any size: "boxes" (n, 4) in its pixels, "labels" and "scores" (n,).

    It is seen in grey where the detector was trained so, and made smaller if its longer side exceeds `longest`
    pixels. Scores below `score` are left out.
    """
    photo = photo.convert("RGB" if len(model.mean) == 3 else "L")
    factor = min(1.0, (longest or math.inf) / max(photo.size))
    size = max(1, round(photo.width * factor)), max(1, round(photo.height * factor))
    small = photo if factor == 1 else photo.resize(size, Image.Resampling.BILINEAR)
    pixels = np.atleast_3d(np.asarray(small, np.float32)).transpose(2, 0, 1) / np.float32(255)
    found = {name: each.numpy() for name, each in model.detect([from_numpy(np.ascontiguousarray(pixels))])[0].items()}
    kept = found["scores"] >= score
    back = np.array([photo.width / small.width, photo.height / small.height] * 2, np.float32)
    return {name: each[kept] * back if name == "boxes" else each[kept] for name, each in found.items()}
