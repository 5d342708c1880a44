"""Folders in the format of PASCAL VOC: one XML file with boxes for each image (Everingham et al. 2010)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tinynet.data.annotations import AnnotatedFolder, AnnotatedImage, AnnotatedObject, Box, Problem, is_image
from tinynet.data.detection import BoxTransform
from tinynet.errors import DataError

LARGEST_FILE = 16 << 20  # bytes of one XML file
SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocFolder(AnnotatedFolder):
    """Images annotated in PASCAL VOC's XML, as LabelImg, CVAT, Label Studio and Roboflow write it.

    Args:
        root: a folder with `Annotations/`, `JPEGImages/` and `ImageSets/Main/<split>.txt`, or one in which images
            and XML files of the same name lie side by side.
        split: the name of a list in `ImageSets/Main`; None takes every image.
        classes: names in the order of the labels; None takes every name that occurs in the XML files of `root`,
            sorted, so that all splits of a folder agree.
        one_based: subtract 1 from xmin and ymin, because PASCAL's own files count pixels from 1 and include the
            last one. The tools above write corners as they are.

    The other arguments, attributes and errors are those of `AnnotatedFolder`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        *,
        skip_bad: bool | None = False,
        allow_empty: bool = False,
        longest: int | None = None,
        one_based: bool = False,
        transforms: BoxTransform | None = None,
    ) -> None:
        folder = _VocFiles(Path(root))
        names = folder.names(split)
        problems = [Problem(f"{split}.txt", f"lists {name} twice", "entry") for name in _repeated(names)]
        parsed = {name: _read(folder, name, problems) for name in dict.fromkeys(names)}
        if classes is None:
            others = [] if split is None else sorted(folder.annotated.keys() - parsed.keys())
            classes = _class_names([*parsed.values(), *(_read(folder, name, []) for name in others)])
        known = {name: label for label, name in enumerate(classes)}
        images: list[AnnotatedImage] = []
        for name, annotation in parsed.items():
            path = _image_of(folder, name, annotation, problems)
            if path is not None and annotation is not None:
                images.append(_annotated(path, len(images), annotation, known, one_based, problems))
        where = root if split is None else f"{os.fspath(root)} ({split})"
        super().__init__(images, problems, where, classes, skip_bad, allow_empty, longest, transforms)


class VocObject(NamedTuple):
    name: str
    box: Box


class VocAnnotation(NamedTuple):
    """What one XML file says; `broken` lists the objects that cannot be read."""

    filename: str
    size: tuple[int, int] | None
    objects: list[VocObject | str]


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses document types, the place where XML defines entities that grow without bound or read files."""

    def doctype(self, name: str, *_: object) -> None:
        raise DataError(f"it has a DOCTYPE ({name}), which annotations do not need and this reader refuses")


def read_voc_annotation(path: str | os.PathLike[str]) -> VocAnnotation:
    """The content of a VOC annotation; objects without a name or a box of numbers are texts that say so.

    Raises:
        DataError: not readable, no XML, not rooted in <annotation>, or with a DOCTYPE. Without the path, which
            callers add.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise DataError(f"it is larger than {LARGEST_FILE >> 20} MB")
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # ValueError and LookupError: encodings
        if isinstance(error, DataError):
            raise
        raise DataError(f"broken XML ({error})") from error
    if root.tag != "annotation":
        raise DataError(f"it begins with <{root.tag}>, a VOC annotation with <annotation>")
    objects = [_read_object(element, place) for place, element in enumerate(root.iterfind("object"), 1)]
    return VocAnnotation((root.findtext("filename") or "").strip(), _read_size(root), objects)


def _read_object(element: ElementTree.Element, place: int) -> VocObject | str:
    name = (element.findtext("name") or "").strip()
    if not name:
        return f"box {place} has no class: <name> is missing"
    texts = [element.findtext(f"bndbox/{side}") for side in SIDES]
    try:
        x0, y0, x1, y1 = (float(text or "") for text in texts)
    except ValueError:
        shown = ", ".join(f"{side} {text}" for side, text in zip(SIDES, texts))
        return f"box {place} ({name}) is not four numbers: {shown}"
    return VocObject(name, (x0, y0, x1, y1))


def _read_size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        return int(root.findtext("size/width") or ""), int(root.findtext("size/height") or "")
    except ValueError:
        return None


class _VocFiles:
    """Which image and XML files there are, by the name that they share."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}")
        self.root = root
        nested = (root / "Annotations").is_dir()
        self.images_folder = root / "JPEGImages" if nested else root
        annotations = root / "Annotations" if nested else root
        self.annotated = {path.stem: path for path in sorted(annotations.glob("*.xml"))}
        self.images: dict[str, list[Path]] = {}
        self.by_file_name: dict[str, Path] = {}
        for path in sorted(self.images_folder.iterdir()) if self.images_folder.is_dir() else []:
            if is_image(path):
                self.images.setdefault(path.stem, []).append(path)
                self.by_file_name[path.name] = path

    def names(self, split: str | None) -> list[str]:
        """The names of the split's images, as listed; all of them where there is no split."""
        if split is None:
            return sorted(self.images.keys() | self.annotated.keys())
        path = self.root / "ImageSets" / "Main" / f"{split}.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            there = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
            raise DataError(f"{path} cannot be read ({error}); the splits here: {there}") from error
        listed = [line.strip() for line in lines if line.strip()]
        # Lists for one class say 1, 0 or -1 after the name; some names end like that too.
        known = self.images.keys() | self.annotated.keys()
        return [name if name in known else re.sub(r"\s+(1|0|-1)$", "", name) for name in listed]


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _read(folder: _VocFiles, name: str, problems: list[Problem]) -> VocAnnotation | None:
    path = folder.annotated.get(name)
    if path is None:
        file = folder.images[name][0].name if name in folder.images else name
        problems.append(Problem(file, f"image without annotation: there is no {name}.xml", "image"))
        return None
    try:
        return read_voc_annotation(path)
    except DataError as error:
        problems.append(Problem(path.name, str(error), "image"))
        return None


def _class_names(annotations: Sequence[VocAnnotation | None]) -> tuple[str, ...]:
    objects = [item for annotation in annotations if annotation is not None for item in annotation.objects]
    return tuple(sorted({item.name for item in objects if isinstance(item, VocObject)}))


def _image_of(
    folder: _VocFiles, name: str, annotation: VocAnnotation | None, problems: list[Problem]
) -> Path | None:
    paths = folder.images.get(name, [])
    if not paths and annotation is not None and annotation.filename in folder.by_file_name:
        paths = [folder.by_file_name[annotation.filename]]
    if len(paths) == 1:
        return paths[0]
    if paths:
        both = " and ".join(path.name for path in paths)
        problems.append(Problem(f"{name}.xml", f"does not say which image it is for: {both}", "image"))
    elif name in folder.annotated:
        place = f"no image {name} (.jpg, .png, ...) in {folder.images_folder}"
        problems.append(Problem(f"{name}.xml", f"missing image: {place}", "image"))
    return None


def _annotated(
    path: Path,
    image_id: int,
    annotation: VocAnnotation,
    known: dict[str, int],
    one_based: bool,
    problems: list[Problem],
) -> AnnotatedImage:
    objects = []
    for place, item in enumerate(annotation.objects, 1):
        if isinstance(item, str):
            problems.append(Problem(path.name, item, "box"))
        elif item.name not in known:
            shown = ", ".join(known)
            text = f"box {place}: unknown class {item.name!r}; the classes are {shown}"
            problems.append(Problem(path.name, text, "box"))
        else:
            x0, y0, x1, y1 = item.box
            box = (x0 - one_based, y0 - one_based, x1, y1)
            objects.append(AnnotatedObject(f"box {place} ({item.name})", known[item.name], box))
    lost = len(objects) < len(annotation.objects)
    return AnnotatedImage(path, path.name, image_id, objects, annotation.size, lost)
