"""Annotations as people make them: read from files, checked against their images, the bad ones listed by name."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tinynet.data.detection import BoxTransform, DetectionDataset, Target, make_target
from tinynet.data.imagenet import read_photo
from tinynet.errors import DataError
from tinynet.utils.progress import progress

LISTED = 20  # problems in a message
ROUNDING = 1.0  # pixels by which a box may reach over the border: tools round and count from 0 or from 1
IN_MEMORY = 2 << 30  # bytes of decoded images that are kept
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")

Box = tuple[float, float, float, float]
Loss = Literal["image", "box", "part of a box", "entry"]


@dataclass(frozen=True)
class Problem:
    """Something wrong with `file`; `loss` is what is left out when one goes on without it."""

    file: str
    text: str
    loss: Loss

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


@dataclass
class AnnotatedObject:
    """A box as its file has it. `name` says which one, as in "box 3 (RBC)"."""

    name: str
    label: int
    box: Box
    area: float | None = None
    crowd: bool = False


@dataclass
class AnnotatedImage:
    """An image file and its objects; `size` (width, height) where the annotation states it."""

    path: Path
    file: str
    image_id: int
    objects: list[AnnotatedObject] = field(default_factory=list)
    size: tuple[int, int] | None = None
    lost_objects: bool = False  # some were annotated, but cannot be used


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def report(problems: Sequence[Problem], where: str | os.PathLike[str]) -> str:
    """How many problems there are, and the first twenty of them with their files."""
    files = len({problem.file for problem in problems})
    counted = f"{len(problems):,} problem{'s' * (len(problems) != 1)} in {files:,} file{'s' * (files != 1)}"
    lines = [f"{where}: {counted}:", *(f"  {problem}" for problem in problems[:LISTED])]
    if len(problems) > LISTED:
        lines.append(f"  ... and {len(problems) - LISTED:,} more")
    return "\n".join(lines)


def settle(problems: Sequence[Problem], where: str | os.PathLike[str], skip_bad: bool) -> None:
    """Raises DataError with the report, or with `skip_bad` warns of what is left out."""
    if not problems:
        return
    if not skip_bad:
        advice = "skip_bad=True (--skip-bad) goes on without them."
        raise DataError(f"{report(problems, where)}\n{advice}")
    warnings.warn(f"left out {left_out(problems)}. {report(problems, where)}", stacklevel=4)


def left_out(problems: Sequence[Problem]) -> str:
    """What going on without the problems costs, as in "2 images and 3 boxes"."""
    count: Counter[str] = Counter(problem.loss for problem in problems)
    count["image"] = len({problem.file for problem in problems if problem.loss == "image"})
    plurals = {"image": "images", "box": "boxes", "part of a box": "parts of boxes", "entry": "entries"}
    named = [f"{count[one]:,} {one if count[one] == 1 else many}" for one, many in plurals.items() if count[one]]
    return " and ".join(filter(None, [", ".join(named[:-1]), *named[-1:]])) or "nothing"


def checked_box(item: AnnotatedObject, width: int, height: int) -> tuple[Box | None, str, Loss]:
    """The box inside of the image, or None, what is wrong with it ("" for nothing), and what that costs."""
    x0, y0, x1, y1 = item.box
    numbers = f"{item.name}: ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if not all(map(math.isfinite, item.box)):
        return None, f"{numbers} is not finite", "box"
    if x1 < x0 or y1 < y0:
        return None, f"{numbers} is inverted: x0 {x0:g}, x1 {x1:g}, y0 {y0:g}, y1 {y1:g}", "box"
    if x1 == x0 or y1 == y0:
        return None, f"{numbers} is empty: {x1 - x0:g} pixels wide, {y1 - y0:g} high", "box"
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, f"{numbers} lies outside of the image, {width} pixels wide and {height} high", "box"
    over = max(-x0, -y0, x1 - width, y1 - height)
    if over > ROUNDING:
        text = f"{numbers} reaches {over:g} pixels out of the image, {width} pixels wide and {height} high"
        return inside, text, "part of a box"
    return inside, "", "box"


class AnnotatedFolder(DetectionDataset):
    """Image files with annotations, all of them read and checked when the data set is made.

    Up to 2 GB of decoded images stay in memory; what does not fit is read again when it is asked for.

    Args:
        images: what a format's reader found, with the `problems` that it met.
        where: the folder or file that messages name.
        classes: names; a label is a place in them.
        skip_bad: go on without what is bad, with one warning that counts and lists it; None does so quietly.
        allow_empty: images that are annotated with no box are used, as images of nothing.
        longest: images whose longer side has more pixels are made smaller, with their boxes.

    Attributes:
        problems: everything that was found bad.

    Raises:
        DataError: bad images or annotations, the first twenty listed with their files, or nothing that is usable.
    """

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        problems: Sequence[Problem],
        where: str | os.PathLike[str],
        classes: Sequence[str],
        skip_bad: bool | None = False,
        allow_empty: bool = False,
        longest: int | None = None,
        transforms: BoxTransform | None = None,
    ) -> None:
        super().__init__(classes, transforms)
        if longest is not None and longest < 1:
            raise ValueError(f"longest must be at least 1 pixel, got {longest}")
        self.longest = longest
        self.problems = list(problems)
        self.paths: list[Path] = []
        self.scales: list[tuple[float, float]] = []  # (x, y) of each item: its pixels by the file's
        self._annotations: list[Target] = []
        self._stored: list[np.ndarray | None] = []
        self._bytes = 0
        for image in progress(images, desc=f"checking {Path(where).name}", unit="image", delay=2):
            self._take(image, allow_empty)
        if not self._annotations:
            found = report(self.problems, where) if self.problems else f"{where}: no image was found"
            raise DataError(f"{found}\nThere is no image to use.")
        if skip_bad is not None:
            settle(self.problems, where, skip_bad)

    def __len__(self) -> int:
        return len(self._annotations)

    def pixels(self, index: int) -> np.ndarray:
        stored = self._stored[index]
        return stored if stored is not None else _channels_first(self._shrunk(read_photo(self.paths[index])))

    def annotation(self, index: int) -> Target:
        return {key: value.copy() if isinstance(value, np.ndarray) else value
                for key, value in self._annotations[index].items()}  # fmt: skip

    def subset(self, indices: Sequence[int]) -> AnnotatedFolder:
        """A data set of these items alone."""
        part = copy.copy(self)
        part.paths = [self.paths[index] for index in indices]
        part.scales = [self.scales[index] for index in indices]
        part._annotations = [self._annotations[index] for index in indices]
        part._stored = [self._stored[index] for index in indices]
        part.__dict__.pop("_statistics", None)
        return part

    def _take(self, image: AnnotatedImage, allow_empty: bool) -> None:
        """Keeps the image with its good boxes, if there are any, and notes what is bad."""
        try:
            photo = read_photo(image.path)
        except DataError as error:
            reason = str(error).replace(str(image.path), "").lstrip(": ")
            self.problems.append(Problem(image.file, reason, "image"))
            return
        if image.size is not None and min(image.size) > 0 and image.size != photo.size:
            stated, real = (f"{width}×{height}" for width, height in (image.size, photo.size))
            text = f"the image has {real} pixels (width×height), its annotation says {stated}"
            self.problems.append(Problem(image.file, text, "image"))
            return
        kept = self._checked_objects(image, photo)
        annotated = bool(image.objects) or image.lost_objects
        if not kept and (annotated or not allow_empty):
            text = "none of its boxes can be used" if annotated else "annotation without boxes"
            self.problems.append(Problem(image.file, text, "image"))
            return
        self._keep(image, photo, kept)

    def _checked_objects(self, image: AnnotatedImage, photo: Image.Image) -> list[tuple[AnnotatedObject, Box]]:
        kept = []
        for item in image.objects:
            box, wrong, loss = checked_box(item, *photo.size)
            if wrong:
                self.problems.append(Problem(image.file, wrong, loss))
            if box is not None:
                kept.append((item, box))
        return kept

    def _keep(self, image: AnnotatedImage, photo: Image.Image, kept: list[tuple[AnnotatedObject, Box]]) -> None:
        small = self._shrunk(photo)
        scale_x, scale_y = small.width / photo.width, small.height / photo.height
        boxes = np.array([box for _, box in kept], np.float64).reshape(-1, 4)
        sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        areas = [item.area if item.area else size for (item, _), size in zip(kept, sizes)]
        self._annotations.append(
            make_target(
                boxes * (scale_x, scale_y, scale_x, scale_y),
                [item.label for item, _ in kept],
                image.image_id,
                np.array(areas) * (scale_x * scale_y),
                [item.crowd for item, _ in kept],
            )
        )
        self.paths.append(image.path)
        self.scales.append((scale_x, scale_y))
        self._bytes += 3 * small.width * small.height
        self._stored.append(_channels_first(small) if self._bytes <= IN_MEMORY else None)

    def _shrunk(self, photo: Image.Image) -> Image.Image:
        longer = max(photo.size)
        if self.longest is None or longer <= self.longest:
            return photo
        width, height = (max(1, round(side * self.longest / longer)) for side in photo.size)
        return photo.resize((width, height), Image.Resampling.BILINEAR)  # antialiased


def _channels_first(photo: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(photo).transpose(2, 0, 1))
