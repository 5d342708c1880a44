"""BCCD: where it is found, what is downloaded and checked, and the real one where it is there."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.small_detection import voc_xml
from tinynet.data import BloodCells, blood_cells
from tinynet.errors import DataError

REAL = Path(os.environ.get("TINYNET_DATA", "/nonexistent")) / "bccd"
IMAGES = {"train": ["BloodImage_00001", "BloodImage_00003"], "val": ["BloodImage_00000"], "test": ["BloodImage_00002"]}


def write_small_bccd(folder: Path) -> Path:
    """Four images 640×480 in BCCD's layout; the first training image has a box that is a point."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, names in IMAGES.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
        for place, name in enumerate(names):
            Image.new("RGB", (640, 480), (200, 180, 190)).save(folder / f"JPEGImages/{name}.jpg")
            boxes = [("RBC", 1, 1, 100, 101), ("WBC", 300, 200, 640, 480), ("Platelets", 200, 20, 240, 60)]
            if split == "train" and place == 0:
                boxes.append(("RBC", 504, 337, 504, 337))
            (folder / f"Annotations/{name}.xml").write_text(voc_xml(f"{name}.jpg", boxes, 640, 480))
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setenv("TINYNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def test_items(tmp_path: Path) -> None:
    data = BloodCells(root=write_small_bccd(tmp_path / "cells"))
    assert data.classes == ("RBC", "WBC", "Platelets") and len(data) == 2 and data.size_limits == (64, 144)
    image, target = data[0]
    assert image.shape == (3, 480, 640) and target["labels"].tolist() == [0, 1, 2]
    assert [str(problem).partition(": ")[0] for problem in data.problems] == ["BloodImage_00001.jpg"]
    small = BloodCells(root=tmp_path / "cells", longest=320)
    assert small[0][0].shape == (3, 240, 320) and small.size_limits == (32, 72)
    assert small[0][1]["boxes"].tolist()[1] == [150, 100, 320, 240]
    with pytest.raises(ValueError, match="split must be one of train, val, test"):
        BloodCells("trainval", root=tmp_path / "cells")


@pytest.mark.parametrize("place", ["TINYNET_DATA", "cache"])
def test_the_usual_places(place: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "cache":
        write_small_bccd(own_cache / "bccd")
    else:
        monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "own"))
        write_small_bccd(tmp_path / "own" / "bccd")
    assert [len(BloodCells(split, download=False)) for split in IMAGES] == [2, 1, 1]


def test_nothing_found_and_no_download(tmp_path: Path) -> None:
    for options in ({"download": False}, {"root": tmp_path / "nowhere"}):
        with pytest.raises(DataError, match=r"BCCD: no Annotations.*(bccd|nowhere)"):
            BloodCells(**options)


def test_damaged_files_are_not_passed_over(tmp_path: Path) -> None:
    folder = write_small_bccd(tmp_path / "cells")
    (folder / "JPEGImages/BloodImage_00003.jpg").write_bytes(b"\xff\xd8broken")
    with pytest.raises(DataError, match=r"cells is damaged: BloodImage_00003.jpg"):
        BloodCells(root=folder)


def packed(folder: Path, path: Path, *extra: tarfile.TarInfo) -> Path:
    """As GitHub packs a commit: everything in one folder, BCCD/ among other things."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "BCCD_Dataset-d272fb1/BCCD")
        readme = tarfile.TarInfo("BCCD_Dataset-d272fb1/README.md")
        readme.size = 2
        tar.addfile(readme, io.BytesIO(b"hi"))
        for member in extra:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_small_bccd(tmp_path / "upstream")
    monkeypatch.setattr(blood_cells, "CONTENT_SHA256", blood_cells.content_sha256(folder))
    monkeypatch.setattr(blood_cells, "URL", (tmp_path / "archive.tar.gz").as_uri())
    return folder


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_download(upstream: Path, own_cache: Path, tmp_path: Path) -> None:
    archive = packed(upstream, tmp_path / "archive.tar.gz")
    assert len(BloodCells()) == 2
    archive.unlink()  # a second time nothing is fetched
    assert len(BloodCells("test")) == 1
    assert left(own_cache) == ["bccd"] and not (own_cache / "bccd/README.md").exists()


def test_wrong_content_is_refused(upstream: Path, own_cache: Path, tmp_path: Path) -> None:
    path = upstream / "Annotations/BloodImage_00003.xml"
    path.write_text(path.read_text().replace("300", "301"))
    packed(upstream, tmp_path / "archive.tar.gz")
    with pytest.raises(DataError, match="wrong content: SHA-256"):
        BloodCells()
    assert left(own_cache) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc"
    return info


@pytest.mark.parametrize(
    "extra",
    [
        member("x/BCCD/../../../evil.txt"),
        member("x/BCCD/Annotations/a\\..\\..\\evil.txt"),
        member("x/BCCD/link", tarfile.SYMTYPE),
        member("x/BCCD/hard", tarfile.LNKTYPE),
        member("x/BCCD/device", tarfile.CHRTYPE),
        member("x/BCCD/huge.jpg", size=2 << 20),
    ],
    ids=lambda info: info.name,
)
def test_hostile_archives_are_refused(upstream: Path, own_cache: Path, tmp_path: Path, extra: tarfile.TarInfo) -> None:
    packed(upstream, tmp_path / "archive.tar.gz", extra)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="refused, because it holds"):
        BloodCells()
    assert left(own_cache) == [] and set(tmp_path.iterdir()) - set(before) <= {tmp_path / "cache"}
    assert not list(tmp_path.rglob("evil.txt"))


def test_broken_archives_and_no_connection(upstream: Path, own_cache: Path, tmp_path: Path) -> None:
    archive = packed(upstream, tmp_path / "archive.tar.gz")
    for content in (b"", b"no archive", archive.read_bytes()[:-2000]):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be unpacked|wrong content"):
            BloodCells()
        assert left(own_cache) == []
    archive.unlink()
    with pytest.raises(DataError, match=r"cannot download(?s:.)*put it at .*bccd") as error:
        BloodCells()
    assert str(error.value).count("Without a connection") == 1


@pytest.mark.skipif(not REAL.is_dir(), reason="needs $TINYNET_DATA/bccd")
def test_the_real_one() -> None:
    parts = {split: BloodCells(split, root=REAL, longest=160) for split in blood_cells.SPLITS}
    assert {split: len(data) for split, data in parts.items()} == {"train": 205, "val": 87, "test": 72}
    labels = [data.annotation(index)["labels"] for data in parts.values() for index in range(len(data))]
    assert np.bincount(np.concatenate(labels)).tolist() == [4155 - 2, 372, 361]
    problems = {split: [problem.file for problem in data.problems] for split, data in parts.items()}
    assert problems == {"train": ["BloodImage_00343.jpg"], "val": ["BloodImage_00338.jpg"], "test": []}
    unmarked = [sum(0 not in data.annotation(i)["labels"] for i in range(len(data))) for data in parts.values()]
    assert unmarked == [8, 4, 3]
    assert blood_cells.content_sha256(REAL) == blood_cells.CONTENT_SHA256
