"""Scenes of handwriting: real digits from 8 pixels high to half of the picture, on clutter, drawn by seed.

A scene takes a millisecond to draw and depends on its seed, its part and its number alone, so that nothing is
downloaded or stored and every machine has the same data set.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from tinynet.data.detection import BoxTransform, DetectionDataset, Target, make_target
from tinynet.data.digits import Digits
from tinynet.utils.progress import progress

SMALLEST_DIGIT = 8  # pixels high; the largest has half of the scene
FEWEST, MOST = 4, 9  # digits in a scene
INK = 4  # of 16 grey levels: fainter pixels do not count when a digit is cropped
GIANT = 3 / 8  # of the scene's side: digits at least so high are giants
GAP = 1  # pixels between digits
TRIES = 50  # places tried for a digit before it is left out
TUNING_SIZE = 1197  # of the 1,437 training digits; the other 240 are held out where something is tuned
CLASSES = {1: ("digit",), 2: ("no giant", "giant"), 10: tuple(str(digit) for digit in range(10))}


class HandwritingScenes(DetectionDataset):
    """Grey scenes (1, size, size) with four to nine handwritten digits of scikit-learn in boxes.

    Digits are cropped to their ink and pasted without overlap, their heights spread evenly over the octaves
    from 8 pixels to half of the scene, on a smooth background with straight strokes and noise. No digit of the
    test scenes occurs in a training scene: they come from the two parts of `Digits`.

    Args:
        train: training scenes or test scenes.
        count: number of scenes; 2,000 to train and 400 to test by default.
        seed: another seed gives other scenes of the same digits. A scene depends on (seed, part, index) alone.
        size: pixels of a side, at least 64.
        classes: over the same pictures, 1 ("digit"), 10 ("0" to "9"), or 2: whether there is a giant in the scene, a
            digit of at least three eighths of its height. With 2 the pixels of a small digit say where it is, but not
            its class, which stands somewhere else in the picture.
        tuning: for choosing settings without a look at the test scenes: both parts are made of training digits,
            1,197 of them to train and 240 held out.

    Raises:
        DataError: scikit-learn is not installed.
        ValueError: another number of classes, a size or count that is too small.
    """

    def __init__(
        self,
        train: bool = True,
        *,
        count: int | None = None,
        seed: int = 0,
        size: int = 128,
        classes: int = 1,
        tuning: bool = False,
        transforms: BoxTransform | None = None,
    ) -> None:
        if classes not in CLASSES:
            raise ValueError(f"HandwritingScenes: classes must be 1, 2 or 10, got {classes}")
        if size < 64:
            raise ValueError(f"HandwritingScenes: size must be at least 64 pixels, got {size}")
        count = (2000 if train else 400) if count is None else count
        if count < 1 or seed < 0:
            raise ValueError(f"HandwritingScenes: count must be positive and seed not negative, got {count} and {seed}")
        super().__init__(CLASSES[classes], transforms)
        self.size_limits = (12.0 * size / 128, 24.0 * size / 128)
        digits, labels = _digits(train, tuning)
        part = 2 * tuning + train
        self.images = np.empty((count, 1, size, size), np.uint8)
        self._annotations: list[Target] = []
        for index in progress(range(count), desc="drawing scenes", unit="scene", delay=2):
            rng = np.random.default_rng([seed, part, index])
            self.images[index, 0], boxes, chosen = _scene(rng, digits, size)
            giant = max(y1 - y0 for _, y0, _, y1 in boxes) >= GIANT * size
            found = labels[chosen] if classes == 10 else np.full(len(chosen), classes == 2 and giant)
            self._annotations.append(make_target(boxes, found, index))

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: int) -> np.ndarray:
        return self.images[index]

    def annotation(self, index: int) -> Target:
        return {key: value.copy() if isinstance(value, np.ndarray) else value
                for key, value in self._annotations[index].items()}  # fmt: skip


def _digits(train: bool, tuning: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """The digits of a part, each (h, w) in [0, 1] and cropped to its ink, and their labels."""
    source = Digits(train=train or tuning)
    chosen = slice(None)
    if tuning:
        chosen = slice(None, TUNING_SIZE) if train else slice(TUNING_SIZE, None)
    grey = source.images[chosen, 0, ::2, ::2]  # Digits shows each pixel four times
    return [_cropped(image) / np.float32(16) for image in grey], source.labels[chosen]


def _cropped(image: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero((image >= INK).any(axis=1)), np.flatnonzero((image >= INK).any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scene(
    rng: np.random.Generator, digits: list[np.ndarray], size: int
) -> tuple[np.ndarray, list[tuple[int, int, int, int]], list[int]]:
    """One picture (size, size) of bytes, the boxes of its digits and which digits they are."""
    canvas = 0.15 + 0.2 * _enlarged(rng.random((6, 6), np.float32), size, size)
    for _ in range(rng.integers(2, 7)):
        _draw_stroke(canvas, rng)
    boxes: list[tuple[int, int, int, int]] = []
    while len(boxes) < FEWEST:  # large digits may leave no room for a fourth one
        chosen = rng.integers(0, len(digits), rng.integers(FEWEST, MOST + 1)).tolist()
        boxes, chosen = _placed(rng, digits, chosen, size)
    for (x0, y0, x1, y1), number in zip(boxes, chosen):
        ink = _enlarged(digits[number], y1 - y0, x1 - x0)
        window = canvas[y0:y1, x0:x1]
        window += ink * (np.float32(rng.uniform(0.6, 1.0)) - window)
    canvas += 0.04 * rng.standard_normal((size, size), np.float32)
    return np.rint(255 * canvas.clip(0, 1)).astype(np.uint8), boxes, chosen


def _placed(
    rng: np.random.Generator, digits: list[np.ndarray], chosen: list[int], size: int
) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Boxes that do not overlap for as many of the chosen digits as there is room for, large ones first."""
    shapes = []
    for number in chosen:
        height = round(SMALLEST_DIGIT * (size / 2 / SMALLEST_DIGIT) ** rng.random())
        rows, columns = digits[number].shape
        width = round(height * columns / rows * rng.uniform(0.9, 1.2))
        shapes.append((height, min(max(width, 2), size // 2 + size // 4), number))
    boxes: list[tuple[int, int, int, int]] = []
    kept = []
    for height, width, number in sorted(shapes, reverse=True):
        places = rng.integers(0, (size - width + 1, size - height + 1), (TRIES, 2)).tolist()
        for x, y in places:
            if all(x >= x1 + GAP or x + width + GAP <= x0 or y >= y1 + GAP or y + height + GAP <= y0
                   for x0, y0, x1, y1 in boxes):  # fmt: skip
                boxes.append((x, y, x + width, y + height))
                kept.append(number)
                break
    return boxes, kept


def _draw_stroke(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A straight line with smooth edges somewhere on the canvas."""
    size = len(canvas)
    half = 0.5 * 4 * 8 ** rng.random()
    thickness, grey = rng.uniform(0.7, 2.7), np.float32(rng.uniform(0.4, 0.9))
    angle = rng.uniform(0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = rng.uniform(0, size, 2)
    reach = half + thickness + 1
    left, right = max(0, math.floor(x - reach)), min(size, math.ceil(x + reach))
    top, bottom = max(0, math.floor(y - reach)), min(size, math.ceil(y + reach))
    dx = np.arange(left, right, dtype=np.float32) + 0.5 - x
    dy = np.arange(top, bottom, dtype=np.float32)[:, np.newaxis] + 0.5 - y
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    beyond = np.maximum(np.abs(along) - half, 0)
    cover = (thickness / 2 + 0.5 - np.hypot(beyond, across)).clip(0, 1).astype(np.float32)
    window = canvas[top:bottom, left:right]
    window += cover * (grey - window)


def _enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image at another size, bilinear with half-pixel centres, as float32."""
    return _weights(len(image), height) @ image @ _weights(image.shape[1], width).T


@cache
def _weights(source: int, target: int) -> np.ndarray:
    """(target, source): how much of each old position a new one takes."""
    place = ((np.arange(target) + 0.5) * source / target - 0.5).clip(0, source - 1)
    return np.maximum(0, 1 - np.abs(place[:, np.newaxis] - np.arange(source))).astype(np.float32)
