"""A user's own detection data, whatever its format and layout: what `--data PATH` opens."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from tinynet.data.annotations import AnnotatedFolder, Problem, is_image, settle
from tinynet.data.coco import CocoFolder, read_coco
from tinynet.data.voc import VocFolder
from tinynet.errors import DataError

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
HELD_OUT = 5  # every fifth image, where the data come undivided
LAYOUTS = """\
  COCO: a .json file, or a folder with annotations/*.json or *.json (train, val, test in their names), or with
        train/ and valid/ that hold a .json each; images beside it, in images/, or in a folder named as the split
  VOC:  Annotations/, JPEGImages/ and maybe ImageSets/Main/*.txt; or images and .xml files side by side;
        or train/ and valid/ of that kind"""


def detect_format(path: str | os.PathLike[str]) -> Literal["coco", "voc"]:
    """Whether the annotations at `path` are COCO's or VOC's.

    Raises:
        DataError: nothing there, an empty folder, images without annotations, or another format.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        if path.suffix.lower() == ".json":
            return "coco"
        raise DataError(f"{path}: neither a folder nor a .json file. What can be read:\n{LAYOUTS}")
    if _coco_files(path):
        return "coco"
    if any(_holds_xml(folder) for folder in (path, *_split_folders(path).values())):
        return "voc"
    if not any(path.iterdir()):
        raise DataError(f"{path}: the folder is empty")
    found = "it holds images but no annotations" if any(map(is_image, path.rglob("*"))) else "no annotations found"
    raise DataError(f"{path}: {found}. What can be read:\n{LAYOUTS}")


def open_detection_data(
    path: str | os.PathLike[str],
    *,
    skip_bad: bool = False,
    allow_empty: bool = False,
    longest: int | None = None,
) -> dict[str, AnnotatedFolder]:
    """The data sets "train", "val" and, where there is one, "test" of a folder or a COCO file.

    Where nothing is set apart for validation, a fifth of the training images is, chosen by a fixed seed. Names in
    a file `classes.txt` are VOC's classes; without it those of the training annotations are.

    Args:
        skip_bad, allow_empty, longest: as in `AnnotatedFolder`.

    Raises:
        DataError: a layout that is not known, or bad annotations, those of all splits in one list.
    """
    path = Path(path)
    options = {"skip_bad": None, "allow_empty": allow_empty, "longest": longest}
    parts = _open_coco(path, options) if detect_format(path) == "coco" else _open_voc(path, options)
    opened = {name: dataset for name, (dataset, _) in parts.items()}
    if "train" not in opened:
        raise DataError(f"{path}: no training images, only {', '.join(opened)}")
    settle([problem for dataset, folder in parts.values() for problem in _placed(dataset, folder)], path, skip_bad)
    if "val" not in opened:
        opened["train"], opened["val"] = _divided(opened["train"], path)
    return {name: opened[name] for name in ("train", "val", "test") if name in opened}


Parts = dict[str, tuple[AnnotatedFolder, str]]  # by split: the data set, and its folder in messages


def _open_coco(path: Path, options: dict) -> Parts:
    files = {"train": path} if path.is_file() else _coco_files(path)
    folders = {name: _images_folder(file) for name, file in files.items()}
    parts: Parts = {}
    for name, file in files.items():
        shared = list(folders.values()).count(folders[name]) > 1
        dataset = CocoFolder(folders[name], file, allow_unlisted=shared, **options)
        parts[name] = dataset, _prefix(folders[name], path, len(files))
        first = next(iter(parts.values()))[0]
        if dataset.classes != first.classes:
            raise DataError(
                f"{path}: the categories of {name} ({', '.join(dataset.classes)}) are not those of "
                f"{next(iter(parts))} ({', '.join(first.classes)})"
            )
    return parts


def _open_voc(path: Path, options: dict) -> Parts:
    classes = _listed_classes(path)
    folders = {name: folder for name, folder in _split_folders(path).items() if _holds_xml(folder)}
    parts: Parts = {}
    if folders and not _holds_xml(path):
        for name, folder in folders.items():
            dataset = VocFolder(folder, None, classes, **options)
            classes = dataset.classes
            parts[name] = dataset, _prefix(folder, path, len(folders))
        return parts
    lists = [name for name in ("train", "val", "test") if (path / "ImageSets" / "Main" / f"{name}.txt").is_file()]
    if "train" in lists:
        return {name: (VocFolder(path, name, classes, **options), "") for name in lists}
    return {"train": (VocFolder(path, None, classes, **options), "")}


def _coco_files(path: Path) -> dict[str, Path]:
    """The annotation file of each split; a single file without a split in its name is "train"."""
    for folder in (path / "annotations", path):
        files = sorted(folder.glob("*.json"))
        files = [file for file in files if file.name.startswith("instances_")] or files
        named = {name: file for file in files if (name := _split_in(file.stem))}
        if named:
            return _ordered(named)
        if len(files) == 1:
            return {"train": files[0]}
        if files:
            shown = ", ".join(file.name for file in files)
            raise DataError(f"{folder}: which file is for training? None of {shown} has train, val or test in its name")
    nested = {name: sorted(folder.glob("*.json")) for name, folder in _split_folders(path).items()}
    return {name: files[0] for name, files in nested.items() if len(files) == 1}


def _split_in(name: str) -> str | None:
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _split_folders(path: Path) -> dict[str, Path]:
    return _ordered({split: path / name for name, split in SPLIT_NAMES.items() if (path / name).is_dir()})


def _ordered(by_split: dict[str, Path]) -> dict[str, Path]:
    """Training first: its classes are those of all."""
    return {name: by_split[name] for name in ("train", "val", "test") if name in by_split}


def _images_folder(file: Path) -> Path:
    """The folder that has the first images which the file lists."""
    around = [file.parent, file.parent.parent] if file.parent.name == "annotations" else [file.parent]
    bare = file.stem.removeprefix("instances_")
    split = _split_in(file.stem) or "images"
    candidates = [folder / name for folder in around for name in ("images", bare, split, f"images/{bare}",
                  f"images/{split}", "JPEGImages", "")]  # fmt: skip
    entries = read_coco(file)["images"][:20]
    names = [str(entry["file_name"]) for entry in entries if isinstance(entry, dict) and "file_name" in entry]
    found = [sum((folder / name).is_file() for name in names) for folder in candidates]
    if not any(found):
        tried = ", ".join(dict.fromkeys(str(folder) for folder in candidates if folder.is_dir()))
        shown = f"{names[0]} and the others" if names else "any image"
        raise DataError(f"{file}: it lists {shown}, but there is none in {tried}")
    return candidates[int(np.argmax(found))]


def _holds_xml(folder: Path) -> bool:
    return any(folder.glob("*.xml")) or any(folder.glob("Annotations/*.xml"))


def _listed_classes(path: Path) -> Sequence[str] | None:
    try:
        lines = (path / "classes.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return [line.strip() for line in lines if line.strip()] or None


def _prefix(folder: Path, path: Path, count: int) -> str:
    inside = count > 1 and folder.is_relative_to(path) and folder != path
    return f"{folder.relative_to(path).as_posix()}/" if inside else ""


def _placed(dataset: AnnotatedFolder, folder: str) -> list[Problem]:
    return [replace(problem, file=folder + problem.file) for problem in dataset.problems]


def _divided(dataset: AnnotatedFolder, path: Path) -> tuple[AnnotatedFolder, AnnotatedFolder]:
    count = len(dataset)
    if count < 2:
        raise DataError(f"{path}: one image is not enough to train on some and validate on others")
    order = np.random.default_rng(0).permutation(count)
    held_out = max(1, count // HELD_OUT)
    return dataset.subset(np.sort(order[held_out:]).tolist()), dataset.subset(np.sort(order[:held_out]).tolist())
