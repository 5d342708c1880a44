"""ImageNet's names, and photos made ready as the published weights expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.data import imagenet, imagenet_classes
from tinynet.errors import DataError


def test_names_by_index() -> None:
    names = imagenet_classes()
    assert len(names) == 1000 and all(name.strip() == name and name for name in names)
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 388: "giant panda", 504: "coffee mug",
             817: "sports car", 954: "banana", 999: "toilet tissue"}  # fmt: skip
    assert {index: names[index] for index in known} == known


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [((640, 480), 256, (341, 256)), ((480, 640), 232, (232, 309)), ((256, 256), 256, (256, 256)), ((3, 5), 6, (6, 10))],
)
def test_resize_short_side(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert imagenet.resize_short_side(Image.new("RGB", size), short).size == expected


def test_centre_crop_takes_the_middle() -> None:
    pixels = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)
    image = Image.fromarray(np.stack([pixels] * 3, axis=2))
    assert np.array_equal(np.asarray(imagenet.centre_crop(image, 5))[:, :, 0], pixels[1:6, 2:7])
    assert imagenet.centre_crop(Image.new("RGB", (341, 256)), 224).size == (224, 224)


def test_normalised() -> None:
    image = Image.fromarray(np.full((2, 3, 3), (0, 128, 255), np.uint8))
    tensor = imagenet.normalised(image)
    assert tuple(tensor.shape) == (1, 3, 2, 3) and tensor.numpy().dtype == np.float32
    expected = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert tensor.numpy()[0, :, 1, 2] == pytest.approx(expected, rel=1e-6)


def test_photos_of_all_kinds_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        Image.new(mode, (4, 2)).save(path)
        assert imagenet.read_photo(path).mode == "RGB"


def test_photos_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert imagenet.read_photo(tmp_path / "a.jpg").size == (2, 4)


def test_bad_files_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(good)
    content = good.read_bytes()
    broken = tmp_path / "broken.png"
    for data in (b"", b"no image", content[: len(content) // 2]):
        broken.write_bytes(data)
        with pytest.raises(DataError, match=r"broken\.png"):
            imagenet.read_photo(broken)
    with pytest.raises(DataError, match=r"absent.jpg: No such file"):
        imagenet.read_photo(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="too thin"):
        imagenet.resize_short_side(Image.new("RGB", (1, 3000)), 256)
