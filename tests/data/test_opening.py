"""`--data PATH`: formats and layouts are recognised, splits found or made, problems of all splits in one list."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.data.small_detection import GOOD, coco_content, voc_xml, write_coco, write_image, write_voc
from tinynet.data import CocoFolder, VocFolder, detect_format, open_detection_data
from tinynet.errors import DataError

HALF = {name: GOOD[name] for name in ("one", "two", "three")}
OTHER = {name: GOOD[name] for name in ("four", "five")}


def voc_lists(root: Path) -> Path:
    return write_voc(root, splits={"train": list(HALF), "val": ["four"], "test": ["five"], "trainval": list(GOOD)})


def voc_folders(root: Path) -> Path:
    write_voc(root / "train", HALF, flat=True)
    write_voc(root / "valid", OTHER, flat=True)
    return root


def coco_official(root: Path) -> Path:
    write_coco(root / "train2017", root / "annotations/instances_train2017.json", HALF)
    write_coco(root / "val2017", root / "annotations/instances_val2017.json", OTHER)
    (root / "annotations/captions_val2017.json").write_text("{}")
    return root


def coco_shared_images(root: Path) -> Path:
    write_coco(root / "images", root / "train.json", HALF)
    write_coco(root / "images", root / "val.json", OTHER)
    return root


def coco_folders(root: Path) -> Path:
    write_coco(root / "train", root / "train/_annotations.coco.json", HALF)
    write_coco(root / "valid", root / "valid/_annotations.coco.json", OTHER)
    return root


def voc_undivided(root: Path) -> Path:
    return write_voc(root)


def voc_flat(root: Path) -> Path:
    return write_voc(root, flat=True)


def coco_undivided(root: Path) -> Path:
    write_coco(root / "images", root / "labels.json")
    return root


def coco_file(root: Path) -> Path:
    return write_coco(root, root / "labels.json")


LAYOUTS = [
    (voc_lists, "voc", {"train": 3, "val": 1, "test": 1}),
    (voc_folders, "voc", {"train": 3, "val": 2}),
    (voc_undivided, "voc", {"train": 4, "val": 1}),
    (voc_flat, "voc", {"train": 4, "val": 1}),
    (coco_official, "coco", {"train": 3, "val": 2}),
    (coco_shared_images, "coco", {"train": 3, "val": 2}),
    (coco_folders, "coco", {"train": 3, "val": 2}),
    (coco_undivided, "coco", {"train": 4, "val": 1}),
    (coco_file, "coco", {"train": 4, "val": 1}),
]


@pytest.mark.parametrize(("write", "kind", "sizes"), LAYOUTS, ids=lambda value: getattr(value, "__name__", ""))
def test_layouts(tmp_path: Path, write, kind: str, sizes: dict[str, int]) -> None:
    path = write(tmp_path / "data")
    assert detect_format(path) == kind
    opened = open_detection_data(path, longest=30)
    assert {name: len(data) for name, data in opened.items()} == sizes and next(iter(opened)) == "train"
    for data in opened.values():
        assert isinstance(data, CocoFolder if kind == "coco" else VocFolder)
        assert data.classes == ("cat", "dog") and data.longest == 30 and data[0][0].shape == (3, 20, 30)
    names = [path.name for data in opened.values() for path in data.paths]
    assert len(set(names)) == 5
    again = open_detection_data(path)
    assert [data.paths for data in again.values()] == [data.paths for data in opened.values()]


@pytest.mark.parametrize("write", [voc_folders, coco_folders])
def test_problems_of_all_splits_come_in_one_list(tmp_path: Path, write) -> None:
    path = write(tmp_path / "data")
    write_image(path / "train/alone.png")
    (path / "valid/five.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="2 problems in 2 files") as error:
        open_detection_data(path)
    assert "train/alone.png: image without annotation" in str(error.value)
    assert "valid/five.png: is no image" in str(error.value) and "--skip-bad" in str(error.value)
    with pytest.warns(UserWarning, match="left out 2 images") as caught:
        opened = open_detection_data(path, skip_bad=True)
    assert len(caught) == 1 and [len(data) for data in opened.values()] == [3, 1]


def test_a_class_that_training_does_not_have(tmp_path: Path) -> None:
    path = voc_folders(tmp_path / "data")
    (path / "valid/five.xml").write_text(voc_xml("five.png", [("cow", 1, 1, 9, 9)]))
    with pytest.raises(DataError, match=r"valid/five.png: box 1: unknown class 'cow'; the classes are cat, dog"):
        open_detection_data(path)
    (path / "classes.txt").write_text("dog\ncow\ncat\n")
    opened = open_detection_data(path)
    assert opened["val"].classes == ("dog", "cow", "cat")
    path = coco_shared_images(tmp_path / "coco")
    content = coco_content(OTHER)
    content["categories"][0]["name"] = "cow"
    (path / "val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"categories of val \(cat, cow\) are not those of train \(cat, dog\)"):
        open_detection_data(path)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        detect_format(tmp_path / "none")
    with pytest.raises(DataError, match="the folder is empty"):
        open_detection_data(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"no annotations found(?s:.)*COCO(?s:.)*VOC"):
        detect_format(tmp_path)
    with pytest.raises(DataError, match="neither a folder nor"):
        detect_format(tmp_path / "notes.txt")
    write_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="holds images but no annotations"):
        detect_format(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(DataError, match=r"which file is for training\? None of a.json, b.json"):
        detect_format(tmp_path)


def test_splits_that_do_not_suffice(tmp_path: Path) -> None:
    path = coco_shared_images(tmp_path / "coco")
    (path / "train.json").unlink()
    with pytest.raises(DataError, match="no training images, only val"):
        open_detection_data(path)
    path = write_voc(tmp_path / "one", {"one": GOOD["one"]})
    with pytest.raises(DataError, match="one image is not enough"):
        open_detection_data(path)


def test_images_that_are_not_where_the_file_says(tmp_path: Path) -> None:
    path = coco_undivided(tmp_path / "coco")
    shutil.rmtree(path / "images")
    with pytest.raises(DataError, match=r"labels.json: it lists one.png and the others, but there is none in"):
        open_detection_data(path)
