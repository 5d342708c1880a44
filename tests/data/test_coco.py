"""COCO folders: what is read, and what is said about files that people get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.small_detection import GOOD, coco_content, write_coco, write_image
from tinynet.data import CocoFolder
from tinynet.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_coco(tmp_path / "images", tmp_path / "good.json")
    return tmp_path / "images"


def written(images: Path, content: object) -> Path:
    path = images.parent / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_items(images: Path) -> None:
    data = CocoFolder(images, images.parent / "good.json")
    assert len(data) == 5 and data.classes == ("cat", "dog") and data.category_ids == (3, 7)
    image, target = data[0]
    assert image.shape == (3, 40, 60) and target["boxes"].tolist() == [[5, 6, 25, 30], [30, 10, 50, 20]]
    assert target["labels"].tolist() == [0, 1] and target["image_id"] == 100
    assert target["area"].tolist() == [240, 100]  # the file's, half of the box
    small = CocoFolder(images, images.parent / "good.json", longest=30)
    assert small[0][1]["area"].tolist() == [60, 25]


def test_crowds_and_odd_areas(images: Path) -> None:
    content = coco_content()
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["area"] = 0
    target = CocoFolder(images, written(images, content))[0][1]
    assert target["iscrowd"].tolist() == [1, 0] and target["area"].tolist() == [240, 200]


def bad_box(bbox: object, **changes: object) -> dict:
    content = coco_content()
    content["annotations"][3].update({"bbox": bbox, **changes})  # annotation 4, a cat in three.png
    return content


BAD_BOXES = [
    ([5, 5, -3, 4], r"three.png: annotation 4 \(cat\): \(5, 5, 2, 9\) is inverted"),
    ([5, 5, 0, 4], "is empty: 0 pixels wide, 4 high"),
    ([100, 5, 3, 4], "lies outside"),
    ([50, 5, 30, 4], "reaches 20 pixels out"),
    ([1, 2, 3], "three.png: annotation 4: bbox is not four numbers"),
    (["1", 2, 3, 4], "bbox is not four numbers"),
    (None, "bbox is not four numbers: None"),
    ([1, 2, True, 4], "bbox is not four numbers"),
    ([1, 2, 10**400, 4], "bbox is not four numbers"),
    ([1, 2, float("nan"), 4], "not finite"),
]


@pytest.mark.parametrize(("bbox", "message"), BAD_BOXES)
def test_bad_boxes(images: Path, bbox: object, message: str) -> None:
    path = written(images, bad_box(bbox))
    with pytest.raises(DataError, match=message):
        CocoFolder(images, path)
    with pytest.warns(UserWarning, match="left out 1 (box|part of a box)"):
        data = CocoFolder(images, path, skip_bad=True)
    assert len(data) == 5 and len(data[2][1]["boxes"]) == 1 + ("reaches" in message)


def changed(section: str, place: int, **changes: object) -> dict:
    content = coco_content()
    entry = content[section][place]
    entry.update(changes)
    for key in [key for key, value in entry.items() if value is ...]:
        del entry[key]
    return content


BAD_ENTRIES = [
    (changed("annotations", 3, category_id=5), "three.png: annotation 4: unknown class: category 5; the ids are 3, 7"),
    (changed("annotations", 3, image_id=5), "annotation 4 is for image 5, which is not listed"),
    (changed("annotations", 3, id=1), "duplicate id: annotation 1 has an id already used for another annotation"),
    (changed("annotations", 3, image_id=...), "annotation number 4 has no 'image_id'"),
    (changed("annotations", 3, id="4"), "annotation number 4 is not as it should be .*whole numbers, not '4'"),
    (changed("images", 4, id=100), r"duplicate id: image 100 \(five.png\)"),
    (changed("images", 4, file_name="one.png"), "one.png: image 104 is a file that was listed before"),
    (changed("images", 4, file_name="gone.png"), "gone.png: missing image"),
    (changed("images", 4, file_name="../good.json"), "is not inside of"),
    (changed("images", 4, file_name="/etc/passwd"), "is not inside of"),
    (changed("images", 4, file_name=...), "image number 5 has no 'file_name'"),
    (changed("images", 4, width=99), "five.png: the image has 60×40 pixels .* says 99×40"),
    (changed("categories", 0, id=3), r"duplicate id: category 3 \(cat\)"),
    (changed("categories", 0, name=...), "category number 1 has no 'name'"),
    ({**coco_content(), "annotations": coco_content()["annotations"][:-1]}, "five.png: annotation without boxes"),
    ({**coco_content(), "images": [*coco_content()["images"], 7]}, "image number 6 is not as it should be"),
]


@pytest.mark.parametrize(("content", "message"), BAD_ENTRIES)
def test_bad_entries_are_named_and_can_be_skipped(images: Path, content: dict, message: str) -> None:
    path = written(images, content)
    with pytest.raises(DataError, match=message):
        CocoFolder(images, path)
    with pytest.warns(UserWarning, match="left out"):
        data = CocoFolder(images, path, skip_bad=True)
    assert 3 <= len(data) <= 5


BAD_FILES = [
    (b"", "broken JSON"),
    (b'{"images": [', "broken JSON"),
    (b"\xff\xfe\x00", "broken JSON"),
    (b"[" * 200_000, "broken JSON"),
    (b"[]", "lists named images, annotations, categories"),
    (b'{"images": [], "annotations": {}}', "lists named annotations, categories"),
    (b'{"images": [], "annotations": [], "categories": []}', r"image without annotation"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_files_that_are_no_annotations(images: Path, content: bytes, message: str) -> None:
    path = images.parent / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        CocoFolder(images, path, skip_bad=True)
    assert "bad.json" in str(error.value)
    path.unlink()
    with pytest.raises(DataError, match=r"bad\.json: No such file"):
        CocoFolder(images, path)


def test_unlisted_images(images: Path) -> None:
    write_image(images / "deep/extra.png")
    with pytest.raises(DataError, match=r"deep/extra.png: image without annotation: good.json does not list it"):
        CocoFolder(images, images.parent / "good.json")
    assert len(CocoFolder(images, images.parent / "good.json", allow_unlisted=True)) == 5
    with pytest.warns(UserWarning, match="left out 1 image"):
        assert len(CocoFolder(images, images.parent / "good.json", skip_bad=True)) == 5
    with pytest.raises(DataError, match="no such folder"):
        CocoFolder(images / "none", images.parent / "good.json")


def test_images_of_nothing_are_allowed_where_asked_for(images: Path) -> None:
    content = {**coco_content(), "annotations": coco_content()["annotations"][:-1]}
    data = CocoFolder(images, written(images, content), allow_empty=True)
    assert len(data) == 5 and data[4][1]["boxes"].shape == (0, 4)


def test_annotations_of_an_image_that_cannot_be_used_are_not_reported_again(images: Path) -> None:
    (images / "one.png").write_bytes(b"broken")
    (images / "two.png").unlink()
    with pytest.raises(DataError, match="2 problems in 2 files") as error:
        CocoFolder(images, images.parent / "good.json")
    assert "one.png: is no image" in str(error.value) and "two.png: missing image" in str(error.value)
    assert GOOD.keys() >= {"one", "two"}
