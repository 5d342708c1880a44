"""Which data a name opens, how many images, and how they are changed at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.small_detection import GOOD, voc_xml, write_image, write_voc
from tinynet.data import BloodCells
from tinynet.detecting import RECIPES, Recipe, open_splits
from tinynet.detecting.recipes import augmentation, recipe_for, standardisation
from tinynet.errors import DataError


def test_the_recipes_of_the_paper_trail() -> None:
    """E2 and E3; whatever a user brings is trained as blood cells are."""
    scenes = Recipe((1, 1, 1, 1), (2, 3, 4, 5), 32, 2.5, epochs=4, longest=None, augment=False)
    assert RECIPES["scenes"] == RECIPES["scenes-10"] == RECIPES["scenes-context"] == scenes
    others = Recipe((1, 2, 2, 1), (3, 4, 5), 48, 4.0, epochs=60, longest=320, augment=True)
    assert recipe_for("blood-cells") == recipe_for("my/photos") == others


@pytest.mark.parametrize(("name", "classes"), [("scenes", 1), ("scenes-10", 10), ("scenes-context", 2)])
def test_scenes(name: str, classes: int) -> None:
    splits = open_splits(name, limit=3)
    assert [len(part) for part in splits] == [3, 3, 3] and len(splits.train.classes) == classes
    assert not np.array_equal(splits.train.pixels(0), splits.test.pixels(0))
    assert np.array_equal(splits.running.pixels(2), splits.test.pixels(2))
    assert standardisation(name, splits.train) == (splits.train.mean, splits.train.std)


def test_the_running_ap_is_of_a_hundred_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynet.detecting.recipes.RUNNING_IMAGES", 2)
    splits = open_splits("scenes-10", limit=4)
    assert [len(part) for part in splits] == [4, 2, 4] and len(splits.running.classes) == 10
    assert np.array_equal(splits.running.pixels(1), splits.test.pixels(1))


def test_blood_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """205 train, up to 100 of 87 validate, 72 test; only the parts' names are taken from the data set here."""
    opened: list[tuple[str, int | None]] = []

    class Parts(list):
        def subset(self, indices):
            return Parts(self[index] for index in indices)

    def fake(split: str, longest: int | None = None) -> Parts:
        opened.append((split, longest))
        return Parts(range({"train": 205, "val": 87, "test": 72}[split]))

    monkeypatch.setattr("tinynet.detecting.recipes.data.BloodCells", fake)
    assert [len(part) for part in open_splits("blood-cells")] == [205, 87, 72]
    assert opened == [("train", 320), ("val", 320), ("test", 320)]
    assert [len(part) for part in open_splits("blood-cells", limit=10)] == [10, 10, 10]
    assert standardisation("blood-cells", BloodCells) == ((0.74, 0.70, 0.71), (0.10, 0.12, 0.10))  # type: ignore[arg-type]


def test_a_folder_of_the_users(tmp_path: Path) -> None:
    write_voc(tmp_path / "a")
    splits = open_splits(str(tmp_path / "a"))
    assert [len(part) for part in splits] == [4, 1, 1] and splits.train.classes == ("cat", "dog")
    lists = {"train": ["one", "two"], "val": ["three"], "test": ["four", "five"]}
    write_voc(tmp_path / "b", splits=lists)
    splits = open_splits(str(tmp_path / "b"))
    assert [len(part) for part in splits] == [2, 1, 2]
    write_image(tmp_path / "a/JPEGImages/large.png", GOOD["one"], 800, 600)
    (tmp_path / "a/Annotations/large.xml").write_text(voc_xml("large.png", GOOD["one"], 800, 600))
    assert max(max(image.shape) for image, _ in open_splits(str(tmp_path / "a")).train) <= 320


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data 'scene' is neither one of scenes, scenes-10, scenes-context, blood"):
        open_splits("scene")
    with pytest.raises(DataError, match="the folder is empty"):
        open_splits(str(tmp_path))


def test_augmentation_moves_boxes_and_keeps_the_frame() -> None:
    """Flips, scales and colours come up; a bright box stays where its annotation says; crowds are dropped."""
    change = augmentation(Recipe(), (0.5, 0.5, 0.5))
    assert change is not None and augmentation(RECIPES["scenes"], (0.5,)) is None
    image = np.full((3, 60, 80), 0.2, np.float32)
    image[:, 10:30, 20:50] = 0.9
    target = {"boxes": np.array([[20, 10, 50, 30], [0, 0, 80, 60]], np.float32), "labels": np.array([1, 0]),
              "image_id": 0, "area": np.array([600, 4800], np.float32), "iscrowd": np.array([0, 1])}  # fmt: skip
    sizes = []
    for _ in range(30):
        moved, found = change(image, target)
        assert moved.shape == image.shape and found["labels"].tolist() in ([1], [])
        for x0, y0, x1, y1 in found["boxes"]:
            inside = moved[:, int(y0) + 2 : int(y1) - 2, int(x0) + 2 : int(x1) - 2]
            assert inside.min() > 0.6
            sizes.append(x1 - x0)
    assert len(set(sizes)) > 10 and min(sizes) > 0.7 * 30 and max(sizes) < 1.35 * 30
