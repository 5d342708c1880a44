"""Fashion-MNIST: where its files are found, and what is said when they are not there or do not fit."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.data.small_fashion import write_small_fashion
from tests.data.test_idx import idx_bytes
from tinynet.data import FashionMNIST, fashion_mnist
from tinynet.errors import DataError


@pytest.fixture(autouse=True)
def no_usual_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setenv("TINYNET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")


def test_items(fashion_folder: Path) -> None:
    train, held_out = FashionMNIST(fashion_folder), FashionMNIST(fashion_folder, train=False)
    assert (len(train), len(held_out), len(train.classes)) == (64, 24, 10)
    image, label = train[13]
    assert image.shape == (1, 28, 28) and label == 3
    assert np.allclose(image.numpy()[0, 10], (250 - train.mean) / train.std)


@pytest.mark.parametrize("place", ["TINYNET_DATA", "TINYNET_DATA/fashion-mnist", "cache", "debian"])
def test_the_usual_places(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {
        "TINYNET_DATA": tmp_path / "own",
        "TINYNET_DATA/fashion-mnist": tmp_path / "own" / "fashion-mnist",
        "cache": tmp_path / "cache" / "data" / "fashion-mnist",
        "debian": tmp_path / "debian",
    }
    if place.startswith("TINYNET_DATA"):
        monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "own"))
    write_small_fashion(folders[place])
    assert len(FashionMNIST(download=False)) == 64


def test_plain_files_and_the_other_spelling(fashion_folder: Path) -> None:
    for path in list(fashion_folder.iterdir()):
        path.with_name(path.stem.replace("-idx", ".idx")).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert len(FashionMNIST(fashion_folder)) == 64


def test_a_given_root_is_the_only_place(tmp_path: Path) -> None:
    write_small_fashion(tmp_path / "debian")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\[.gz\].*nowhere"):
        FashionMNIST(tmp_path / "nowhere")


def test_nothing_found_and_no_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="debian"):
        FashionMNIST(download=False)


def test_download_into_the_cache_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file:// address; the checksums are those of the real files, so these are refused."""
    source = write_small_fashion(tmp_path / "source")
    monkeypatch.setattr(fashion_mnist, "URL", source.as_uri() + "/")
    with pytest.raises(DataError, match="checksum"):
        FashionMNIST()
    cache = tmp_path / "cache" / "data" / "fashion-mnist"
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    from tinynet.utils.download import file_sha256

    monkeypatch.setattr(fashion_mnist, "SHA256", {path.name: file_sha256(path) for path in source.iterdir()})
    assert len(FashionMNIST()) == 64
    assert len(list(cache.glob("train-*.gz"))) == 2


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte.gz", np.zeros(63, np.uint8), r"\(63,\) labels for 64 images"),
        ("train-labels-idx1-ubyte.gz", np.full(64, 10, np.uint8), "label 10 of image 0: classes are 0..9"),
        ("train-images-idx3-ubyte.gz", np.zeros((64, 28), np.uint8), r"expected images"),
        ("train-images-idx3-ubyte.gz", np.zeros((64, 28, 28), np.int16), r"expected images"),
    ],
)
def test_files_that_do_not_fit(fashion_folder: Path, name: str, array: np.ndarray, message: str) -> None:
    (fashion_folder / name).write_bytes(gzip.compress(idx_bytes(array)))
    with pytest.raises(DataError, match=message):
        FashionMNIST(fashion_folder)
