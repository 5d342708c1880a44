"""Training small detectors: recipes for data, the fit loop with AP, runs and their files, measured comparisons."""

from __future__ import annotations

from tinynet.detecting.recipes import RECIPES, Recipe, Splits, open_splits
from tinynet.detecting.runs import build_trainer, detect_photo, new_config, open_detector, save_detector
from tinynet.detecting.trainer import DetectionTrainer, average_precision_of, detect_all, evaluate

__all__ = [
    "RECIPES",
    "DetectionTrainer",
    "Recipe",
    "Splits",
    "average_precision_of",
    "build_trainer",
    "detect_all",
    "detect_photo",
    "evaluate",
    "new_config",
    "open_detector",
    "open_splits",
    "save_detector",
]
