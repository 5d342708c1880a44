"""Folders in COCO's format: images and one JSON file with all their boxes (Lin et al. 2014)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from tinynet.data.annotations import AnnotatedFolder, AnnotatedImage, AnnotatedObject, Problem, is_image
from tinynet.data.detection import BoxTransform
from tinynet.errors import DataError

SECTIONS = ("images", "annotations", "categories")


class CocoFolder(AnnotatedFolder):
    """Images annotated in COCO's JSON: `images`, `annotations` with `bbox` (x, y, width, height), `categories`.

    Labels are the places of the categories sorted by their id; `category_ids` leads back. `image_id` is the file's.
    Annotations with `iscrowd` are kept and marked. An image in the folder that the JSON does not list is reported.

    Args:
        images: the folder that `file_name` is relative to.
        annotations: the JSON file.
        allow_unlisted: other images in the folder are no problem, because they belong to another split.

    The other arguments, attributes and errors are those of `AnnotatedFolder`.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        *,
        skip_bad: bool | None = False,
        allow_empty: bool = False,
        allow_unlisted: bool = False,
        longest: int | None = None,
        transforms: BoxTransform | None = None,
    ) -> None:
        folder = Path(images)
        if not folder.is_dir():
            raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        reader = _Reader(folder, read_coco(annotations), Path(annotations).name)
        if not allow_unlisted:
            reader.note_unlisted()
        self.category_ids = tuple(sorted(reader.categories))
        classes = [reader.categories[number] for number in self.category_ids]
        found = list(reader.images.values())
        super().__init__(
            found, reader.problems, annotations, classes, skip_bad, allow_empty, longest, transforms
        )


def read_coco(path: str | os.PathLike[str]) -> dict[str, list[Any]]:
    """The three lists of an annotation file. Raises DataError with the path."""
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError too
        raise DataError(f"{path}: broken JSON ({error})") from error
    missing = [name for name in SECTIONS if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        raise DataError(f"{path}: no COCO annotations, which have lists named {', '.join(missing)}")
    return {name: content[name] for name in SECTIONS}


class _Reader:
    """Goes through the three lists once; what cannot be used becomes a problem."""

    def __init__(self, folder: Path, content: dict[str, list[Any]], file: str) -> None:
        self.folder = folder
        self.file = file
        self.problems: list[Problem] = []
        self.categories: dict[int, str] = {}
        self.images: dict[int, AnnotatedImage] = {}
        self._left_out: set[int] = set()  # images that are listed and cannot be used
        self._listed: set[Path] = set()
        self._annotation_ids: set[int] = set()
        for name, take in zip(("category", "image", "annotation"), (self._category, self._image, self._annotation)):
            entries = content["categories" if name == "category" else f"{name}s"]
            for place, entry in enumerate(entries):
                self._guarded(take, entry, f"{name} number {place + 1}")

    def note_unlisted(self) -> None:
        for path in sorted(self.folder.rglob("*")):
            if is_image(path) and path not in self._listed:
                shown = path.relative_to(self.folder).as_posix()
                self.problems.append(Problem(shown, f"image without annotation: {self.file} does not list it", "image"))

    def _guarded(self, take: Callable[[dict[str, Any]], None], entry: Any, what: str) -> None:
        try:
            take(entry)
        except (KeyError, TypeError, ValueError) as error:
            missing = f"has no {error}" if isinstance(error, KeyError) else f"is not as it should be ({error})"
            self.problems.append(Problem(self.file, f"{what} {missing}", "entry"))

    def _category(self, entry: dict[str, Any]) -> None:
        number, name = _whole(entry["id"]), str(entry["name"])
        if number in self.categories:
            self._repeated(f"category {number} ({name})", f"for {self.categories[number]}")
        else:
            self.categories[number] = name

    def _image(self, entry: dict[str, Any]) -> None:
        number, name = _whole(entry["id"]), str(entry["file_name"])
        path = self.folder / name
        if number in self.images or number in self._left_out:
            self._repeated(f"image {number} ({name})", "for another image")
            return
        inside = not PurePosixPath(name).is_absolute() and ".." not in Path(name).parts and not Path(name).drive
        if inside and path in self._listed:
            self.problems.append(Problem(name, f"image {number} is a file that was listed before", "image"))
        elif inside and path.is_file():
            self._listed.add(path)
            self.images[number] = AnnotatedImage(path, name, number, [], _stated_size(entry))
            return
        else:
            text = f"missing image: not in {self.folder}" if inside else f"is not inside of {self.folder}"
            self.problems.append(Problem(name, text, "image"))
        self._left_out.add(number)

    def _annotation(self, entry: dict[str, Any]) -> None:
        number, image_id, category = (_whole(entry[key]) for key in ("id", "image_id", "category_id"))
        what = f"annotation {number}"
        if number in self._annotation_ids:
            self._repeated(what, "for another annotation")
            return
        self._annotation_ids.add(number)
        image = self.images.get(image_id)
        if image is None:
            if image_id not in self._left_out:
                self.problems.append(Problem(self.file, f"{what} is for image {image_id}, which is not listed", "box"))
            return
        wrong = ""
        if category not in self.categories:
            wrong = f"unknown class: category {category}; the ids are {_shortened(sorted(self.categories))}"
        elif (numbers := _four_numbers(entry.get("bbox"))) is None:
            wrong = f"bbox is not four numbers: {str(entry.get('bbox'))[:60]}"
        else:
            x, y, width, height = numbers
            label = sorted(self.categories).index(category)
            name = f"{what} ({self.categories[category]})"
            box = (x, y, x + width, y + height)
            crowd = bool(entry.get("iscrowd", 0))
            image.objects.append(AnnotatedObject(name, label, box, _stated_area(entry), crowd))
            return
        image.lost_objects = True
        self.problems.append(Problem(image.file, f"{what}: {wrong}", "box"))

    def _repeated(self, what: str, user: str) -> None:
        self.problems.append(Problem(self.file, f"duplicate id: {what} has an id already used {user}", "entry"))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"ids are whole numbers, not {value!r}")
    return value


def _four_numbers(bbox: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in bbox):
        return None
    try:
        x, y, width, height = map(float, bbox)
    except OverflowError:
        return None
    return x, y, width, height


def _stated_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _stated_area(entry: dict[str, Any]) -> float | None:
    area = entry.get("area")
    return float(area) if isinstance(area, (int, float)) and 0 < area < math.inf else None


def _shortened(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:12]))
    return shown + (", ..." if len(numbers) > 12 else "")
