"""VOC folders: what is read, and what is said about files that people get wrong."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tests.data.small_detection import GOOD, voc_xml, write_image, write_voc
from tinynet.data import VocFolder, annotations
from tinynet.data.voc import read_voc_annotation
from tinynet.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "voc", splits={"train": ["one", "two", "three"], "val": ["four", "five 1"]})


def test_items(folder: Path) -> None:
    data = VocFolder(folder, "train")
    assert len(data) == 3 and data.classes == ("cat", "dog") and data.problems == []
    image, target = data[0]
    assert image.shape == (3, 40, 60) and image.dtype == tinynet.float32
    assert target["boxes"].tolist() == [[5, 6, 25, 30], [30, 10, 50, 20]] and target["labels"].tolist() == [0, 1]
    assert image[:, 7, 6].numpy() == pytest.approx(220 / 255) and image[:, 5, 4].numpy() == pytest.approx(40 / 255)
    assert [data[i][1]["image_id"] for i in range(3)] == [0, 1, 2]
    assert data[2][1]["boxes"].tolist()[1] == [40.5, 5.5, 59.5, 39.5]


def test_splits_agree_on_the_classes_and_no_split_is_everything(folder: Path) -> None:
    (folder / "ImageSets/Main/dogs.txt").write_text("two -1\nfour  1\n")
    dogs = VocFolder(folder, "dogs")
    assert dogs.classes == ("cat", "dog") and [path.stem for path in dogs.paths] == ["two", "four"]
    assert len(VocFolder(folder, "val")) == 2 and len(VocFolder(folder)) == 5
    assert VocFolder(folder, classes=["dog", "cat", "cow"])[0][1]["labels"].tolist() == [1]
    with pytest.raises(DataError, match=r"nothere\.txt.*the splits here: dogs, train, val"):
        VocFolder(folder, "nothere")


def test_names_with_spaces(tmp_path: Path) -> None:
    names = ["a cell", "cell 1", "cell"]
    folder = write_voc(tmp_path / "voc", dict.fromkeys(names, GOOD["one"]), {"train": ["a cell 1", "cell 1", "cell"]})
    assert [path.stem for path in VocFolder(folder, "train").paths] == names


def test_side_by_side(tmp_path: Path) -> None:
    assert len(VocFolder(write_voc(tmp_path / "flat", flat=True))) == 5


def test_pixels_counted_from_one(folder: Path) -> None:
    assert VocFolder(folder, "train", one_based=True)[0][1]["boxes"].tolist()[0] == [4, 5, 25, 30]


def test_longest_shrinks_images_and_boxes(folder: Path) -> None:
    data = VocFolder(folder, "train", longest=30)
    image, target = data[0]
    assert image.shape == (3, 20, 30) and data.scales == [(0.5, 0.5)] * 3
    assert target["boxes"].tolist()[0] == [2.5, 3, 12.5, 15] and target["area"].tolist() == [120, 50]
    assert VocFolder(folder, "train", longest=100)[0][0].shape == (3, 40, 60)
    with pytest.raises(ValueError, match="longest"):
        VocFolder(folder, longest=0)


def test_images_that_do_not_fit_into_memory_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = VocFolder(folder)
    monkeypatch.setattr(annotations, "IN_MEMORY", 2 * 3 * 40 * 60)
    read = VocFolder(folder)
    assert [stored is not None for stored in read._stored] == [True, True, False, False, False]
    for index in range(5):
        assert np.array_equal(kept.pixels(index), read.pixels(index))


def test_statistics_are_those_of_the_pixels(folder: Path) -> None:
    data = VocFolder(folder)
    stack = np.stack([data.pixels(i) for i in range(5)]) / 255
    assert data.mean == pytest.approx(stack.mean(axis=(0, 2, 3)))
    assert data.std == pytest.approx(stack.std(axis=(0, 2, 3)))
    part = data.subset([4])  # "two", all bright
    assert len(part) == 1 and part.mean == pytest.approx([220 / 255] * 3) and len(data) == 5
    assert part[0][1]["image_id"] == 4 and part.paths[0].name == "two.png"


BOMB = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "lol">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><filename>&c;</filename></annotation>"""


def xml_of(box: str, name: str = "<name>cat</name>") -> str:
    return f"<annotation><object>{name}<bndbox>{box}</bndbox></object></annotation>"


def sides(*values: object) -> str:
    return "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), values))


BAD_IMAGES = {
    "": "broken XML",
    "<annotation><object>": "broken XML",
    "\x00\x01": "broken XML",
    "<html></html>": "begins with <html>",
    BOMB: "DOCTYPE",
    '<!DOCTYPE annotation SYSTEM "file:///etc/passwd"><annotation/>': "DOCTYPE",
    voc_xml("bad.png", []): "annotation without boxes",
    voc_xml("bad.png", [("cat", 1, 1, 5, 5)], width=40, height=60): r"60×40 pixels .* says 40×60",
}
BAD_BOXES = {
    xml_of(sides(30, 5, 10, 9)): r"box 1 \(cat\): \(30, 5, 10, 9\) is inverted",
    xml_of(sides(10, 9, 30, 5)): r"box 1 \(cat\): \(10, 9, 30, 5\) is inverted",
    xml_of(sides(10, 5, 10, 9)): r"box 1 \(cat\): .* is empty: 0 pixels wide, 4 high",
    xml_of(sides(61, 5, 70, 9)): "lies outside of the image, 60 pixels wide and 40 high",
    xml_of(sides("nan", 5, 70, 9)): "not finite",
    xml_of(sides(1, 5, 1e400, 9)): "not finite",
    xml_of(sides(1, 5, "x", 9)): r"box 1 \(cat\) is not four numbers: xmin 1, ymin 5, xmax x, ymax 9",
    xml_of(sides(1, 5, 20)): "ymax None",
    xml_of(sides(1, 5, 20, 9), ""): "box 1 has no class",
    xml_of(sides(1, 5, 20, 9), "<name>cow</name>"): r"box 1: unknown class 'cow'; the classes are cat, dog",
}


@pytest.mark.parametrize(("content", "message"), [*BAD_IMAGES.items(), *BAD_BOXES.items()])
def test_bad_annotations_are_named_and_can_be_skipped(tmp_path: Path, content: str, message: str) -> None:
    folder = write_voc(tmp_path / "voc")
    write_image(folder / "JPEGImages/bad.png")
    (folder / "Annotations/bad.xml").write_text(content)
    with pytest.raises(DataError, match=rf"bad\.(xml|png): .*{message}") as error:
        VocFolder(folder, classes=["cat", "dog"])
    assert str(folder) in str(error.value) and "--skip-bad" in str(error.value)
    with pytest.warns(UserWarning, match="left out 1 image") as caught:
        data = VocFolder(folder, classes=["cat", "dog"], skip_bad=True)
    assert len(caught) == 1 and len(data) == 5 and "bad" in str(caught[0].message)


def test_a_bad_box_costs_only_itself(folder: Path) -> None:
    (folder / "Annotations/one.xml").write_text(
        voc_xml("one.png", [("cat", 5, 6, 25, 30), ("dog", 50, 10, 30, 20), ("dog", -9, 3, 20, 20)])
    )
    with pytest.raises(DataError, match=r"2 problems in 1 file(?s:.)*box 2 \(dog\)(?s:.)*box 3 .* reaches 9 pixels"):
        VocFolder(folder, "train")
    with pytest.warns(UserWarning, match="left out 1 box and 1 part of a box"):
        data = VocFolder(folder, "train", skip_bad=True)
    assert len(data) == 3 and data[0][1]["boxes"].tolist() == [[5, 6, 25, 30], [0, 3, 20, 20]]


def test_a_pixel_over_the_border_is_rounding(folder: Path) -> None:
    (folder / "Annotations/one.xml").write_text(voc_xml("one.png", [("cat", -1, 0, 61, 40.5)]))
    assert VocFolder(folder, "train")[0][1]["boxes"].tolist() == [[0, 0, 60, 40]]


def test_images_of_nothing_are_allowed_where_asked_for(folder: Path) -> None:
    (folder / "Annotations/two.xml").write_text(voc_xml("two.png", []))
    data = VocFolder(folder, "train", allow_empty=True)
    assert len(data) == 3 and data[1][1]["boxes"].shape == (0, 4) and data[1][1]["labels"].shape == (0,)
    (folder / "Annotations/two.xml").write_text(voc_xml("two.png", [("cat", 5, 5, 5, 5)]))  # not nothing: unknown
    with pytest.raises(DataError, match="none of its boxes"):
        VocFolder(folder, "train", allow_empty=True)
    (folder / "Annotations/two.xml").write_text(voc_xml("two.png", [("cow", 5, 5, 9, 9)]))
    with pytest.warns(UserWarning, match="left out 1 image and 1 box"):
        assert len(VocFolder(folder, "train", ["cat", "dog"], allow_empty=True, skip_bad=True)) == 2


def test_files_that_are_missing_or_unreadable(folder: Path) -> None:
    write_image(folder / "JPEGImages/alone.png")
    (folder / "Annotations/widow.xml").write_text(voc_xml("widow.png", GOOD["one"]))
    whole = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("cut", "text", "twin"):
        Image.fromarray(whole).save(folder / f"JPEGImages/{name}.jpg")
        (folder / f"Annotations/{name}.xml").write_text(voc_xml(f"{name}.jpg", [("cat", 1, 1, 9, 9)], 64, 64))
    content = (folder / "JPEGImages/cut.jpg").read_bytes()
    (folder / "JPEGImages/cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "JPEGImages/text.jpg").write_text("no image")
    write_image(folder / "JPEGImages/twin.png")
    with pytest.raises(DataError) as error:
        VocFolder(folder)
    for text in ("alone.png: image without annotation", "widow.xml: missing image", "cut.jpg: ", "truncated",
                 "text.jpg: is no image", "twin.xml: does not say which image", "twin.jpg and twin.png",
                 "5 problems in 5 files"):  # fmt: skip
        assert text in str(error.value), text
    with pytest.warns(UserWarning, match="left out 5 images"):
        assert len(VocFolder(folder, skip_bad=True)) == 5


def test_the_first_twenty_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc")
    for number in range(33):
        write_image(folder / f"JPEGImages/x{number:02}.png")
    with pytest.raises(DataError, match=r"33 problems in 33 files") as error:
        VocFolder(folder)
    text = str(error.value)
    assert text.count("image without annotation") == 20 and "... and 13 more" in text
    assert text.index("x00.png") < text.index("x19.png") and "x20.png" not in text


def test_an_image_with_another_stem_is_found_by_its_file_name(folder: Path) -> None:
    (folder / "Annotations/odd.xml").write_text(voc_xml("two.png", GOOD["two"]))
    (folder / "ImageSets/Main/odd.txt").write_text("odd\n")
    assert VocFolder(folder, "odd").paths[0].name == "two.png"


def test_lists_that_repeat_or_name_nothing(folder: Path) -> None:
    (folder / "ImageSets/Main/train.txt").write_text("one\ntwo\none\nghost\n")
    with pytest.raises(DataError, match=r"lists one twice(?s:.)*ghost: image without annotation"):
        VocFolder(folder, "train")
    with pytest.warns(UserWarning, match="left out 1 image and 1 entry"):
        assert len(VocFolder(folder, "train", skip_bad=True)) == 2


def test_empty_folders_and_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        VocFolder(tmp_path / "none")
    for skip_bad in (False, True, None):
        with pytest.raises(DataError, match="no image was found"):
            VocFolder(tmp_path, skip_bad=skip_bad)
    write_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: image without annotation(?s:.)*no image to use"):
        VocFolder(tmp_path, skip_bad=True)


def test_problems_can_be_collected_quietly(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc")
    write_image(folder / "JPEGImages/alone.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = VocFolder(folder, skip_bad=None)
    assert [problem.file for problem in data.problems] == ["alone.png"]


def test_reading_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(voc_xml("a.png", GOOD["one"]).encode("utf-16"))
    found = read_voc_annotation(path)
    assert found.filename == "a.png" and found.size == (60, 40) and found.objects[1] == ("dog", (30, 10, 50, 20))
    path.write_bytes(BOMB.replace('"1.0"', '"1.0" encoding="utf-16"').encode("utf-16"))
    with pytest.raises(DataError, match="DOCTYPE"):
        read_voc_annotation(path)
    with pytest.raises(DataError, match="No such file"):
        read_voc_annotation(tmp_path / "none.xml")
    path.write_text("<annotation><size><width>?</width></size>" + "<a>" * 50 + "</a>" * 50 + "</annotation>")
    assert read_voc_annotation(path) == ("", None, [])
