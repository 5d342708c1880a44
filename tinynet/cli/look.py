"""`tinynet summary · parity · features · classify`: models from the inside, and what they see in a photo."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tinynet
from tinynet import checkpoint, plot
from tinynet.data import imagenet
from tinynet.errors import DataError, TinynetError
from tinynet.inspect import architecture, graph, mermaid
from tinynet.inspect import parity as parity_report
from tinynet.inspect.architecture import Loaded
from tinynet.inspect.summary import summarise
from tinynet.inspect.trace import example_arguments, trace
from tinynet.models.feature_maps import FeatureMaps
from tinynet.models.fpn import FeaturePyramidNetwork
from tinynet.nn import functional as F
from tinynet.utils.atomic import atomic_write

PYRAMID_CHANNELS = 256
# Resize, crop of the two generations of published weights, and the names of the second one's files.
PREPROCESSING = {"v1": (256, 224), "v2": (232, 224)}
SECOND_GENERATION = ("11ad3fa6", "cd907fc2", "f82ba261", "imagenet1k_v2")
TOP = 5


def run_summary(options: argparse.Namespace) -> int:
    """Prints the table of a model, and draws or writes its graph if asked to."""
    model = parity_report.build(options.model, "summary")
    height, width = parse_size(options.size)
    size = (options.batch, 3, height, width)
    print(summarise(model, trace(model, example_arguments(model, size)), options.depth))
    if options.graph is None:
        return 0
    path = Path(options.graph)
    picture = graph.module_graph(model, size, options.depth)
    if path.suffix == ".png":
        plot.save(plot.draw(picture, options.model), path)
    else:
        with atomic_write(path) as file:
            file.write(f"{mermaid.graph_to_mermaid(picture)}\n".encode())
    print(f"{path}  the graph")
    return 0


def run_parity(options: argparse.Namespace) -> int:
    """Prints the comparison with torch; 0 if every layer agrees, else 1."""
    dtype = options.dtype or ("float64" if options.training else "float32")
    case = parity_report.Case(
        options.model, parse_size(options.size), options.batch, dtype, options.training, not options.outputs_only,
        options.seed,
    )  # fmt: skip
    report = parity_report.parity(case)
    mode = "training" if options.training else "evaluation"
    print(f"{case.name} against torch, {mode} mode, {dtype}, {case.batch} × 3 × {options.size}, seed {case.seed}\n")
    print(report)
    return int(not report.agrees)


def run_features(options: argparse.Namespace) -> int:
    """Draws C2 to C5 and P2 to P5 of a photo."""
    photo = imagenet.resize_short_side(imagenet.read_photo(options.photo), options.size)
    loaded = load_weights(options.weights)
    maps, levels, note = feature_maps(photo, loaded, options.seed)
    title = f"{Path(options.photo).name} through {loaded.name} ({Path(options.weights).name})"
    path = Path(options.out or f"{Path(options.photo).stem}-features.png")
    plot.save(plot.features(photo, (maps, levels), title, (note,)), path)
    print(f"{loaded.name} from {options.weights}; pyramid: {' '.join(note.split())}")
    for name, values in {**maps, **levels}.items():
        print(f"  {name}  {values.shape[0]:5,} channels of {values.shape[1]}×{values.shape[2]}")
    print(f"{path}  the picture")
    return 0


def run_classify(options: argparse.Namespace) -> int:
    """Prints and draws the five most probable classes of a photo."""
    loaded = load_weights(options.weights)
    if loaded.classes is None:
        raise DataError(f"{options.weights} holds {loaded.name} without its last layer (fc): it cannot classify")
    kind = options.preprocess or preprocessing_of(options.weights)
    resize, crop = PREPROCESSING[kind]
    photo = imagenet.centre_crop(
        imagenet.resize_short_side(imagenet.read_photo(options.photo), resize), crop
    )
    with tinynet.no_grad():
        probabilities = F.softmax(loaded.backbone(imagenet.normalised(photo)), dim=1).numpy()[0]
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    names = [class_name(int(index), loaded.classes) for index in best]
    print(f"{options.photo}: {loaded.name}, resized to {resize}, middle {crop}×{crop} ({kind})")
    for name, index in zip(names, best):
        print(f"  {probabilities[index]:6.1%}  {name}")
    path = Path(options.out or f"{Path(options.photo).stem}-classes.png")
    title = f"{Path(options.photo).name} by {loaded.name}"
    plot.save(plot.classification(photo, names, [float(probabilities[index]) for index in best], title), path)
    print(f"{path}  the picture")
    return 0


def load_weights(path: str) -> Loaded:
    """The net that a file holds. Raises CheckpointError."""
    return architecture.load_resnet(checkpoint.read_state_dict(path)[0], path)


def feature_maps(
    photo: Image.Image, loaded: Loaded, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """Maps (C, h, w) by level: the backbone's, the pyramid's, and where the pyramid's weights come from."""
    stages = FeatureMaps(loaded.backbone)
    pyramid, levels = loaded.pyramid, loaded.levels
    note = f"feature pyramid from the\nsame file (levels {', '.join(levels)})"
    if pyramid is None:
        tinynet.manual_seed(seed)
        pyramid = FeaturePyramidNetwork(list(stages.channels.values()), PYRAMID_CHANNELS)
        levels = tuple(stages.channels)
        note = f"NOT TRAINED: the file has no\npyramid, so its weights are\nrandom (seed {seed})"
    with tinynet.no_grad():
        maps = stages(imagenet.normalised(photo))
        pyramids = pyramid(OrderedDict((level.replace("C", "P"), maps[level]) for level in levels))
    return _arrays(maps), _arrays(pyramids), note


def _arrays(maps: dict[str, tinynet.Tensor]) -> dict[str, np.ndarray]:
    return {name: values.numpy()[0] for name, values in maps.items()}


def preprocessing_of(weights: str) -> str:
    """"v2" if the file's name says that it is of the second generation, else "v1"."""
    name = Path(weights).name.lower()
    return "v2" if any(mark in name for mark in SECOND_GENERATION) else "v1"


def class_name(index: int, classes: int) -> str:
    """ImageNet's name of a class where there are as many classes as ImageNet has."""
    names = imagenet.imagenet_classes()
    return names[index] if classes == len(names) else f"class {index}"


def parse_size(text: str) -> tuple[int, int]:
    """``224`` or ``75x91`` (height, width). Raises TinynetError."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", text)
    if found is None:
        raise TinynetError(f"--size {text!r} is no size: give one number, or height and width as in 75x91")
    return int(found[1]), int(found[2] or found[1])


COMMANDS: dict[str, Callable[[Any], int]] = {
    "summary": run_summary, "parity": run_parity, "features": run_features, "classify": run_classify,
}  # fmt: skip
