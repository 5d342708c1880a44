"""Fashion-MNIST: 70,000 grey images of clothes (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tinynet.data.idx import read_idx
from tinynet.data.images import ImageDataset
from tinynet.errors import DataError
from tinynet.utils.cache import user_cache
from tinynet.utils.download import download

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
URL = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
    "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/"
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
MEAN, STD = 72.94, 90.02  # of the training pixels, 0..255


class FashionMNIST(ImageDataset):
    """60,000 training images (`train=True`) or 10,000 held out, 1×28×28, ten classes of clothes.

    The four IDX files, gzipped or plain, are looked for in `root`, in `$TINYNET_DATA`, in the user's cache and
    where Debian's package `dataset-fashion-mnist` puts them; the first folder that has them is used. Where
    none has, `download=True` fetches them into the cache, each checked against its SHA-256. A given `root`
    is the only place looked at.

    Raises:
        DataError: files that are missing, damaged, or do not fit each other; it names the path.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None = None, train: bool = True, download: bool = True
    ) -> None:
        part = "train" if train else "t10k"
        images_path, labels_path = _locate([f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"], root, download)
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dtype != np.uint8 or images.ndim != 3:
            raise DataError(f"{images_path}: expected images (N, H, W) of uint8, got {images.shape} {images.dtype}")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(f"{labels_path}: {labels.shape} labels for {images.shape[0]} images of {images_path}")
        super().__init__(images[:, np.newaxis], labels.astype(np.int64), CLASSES, MEAN, STD)


def _locate(names: list[str], root: str | os.PathLike[str] | None, fetch: bool) -> list[Path]:
    """The paths of all `names` in the first folder that has every one of them."""
    folders = [Path(root)] if root is not None else _usual_folders()
    for folder in folders:
        found = [path for name in names if (path := _in_folder(folder, name))]
        if len(found) == len(names):
            return found
    if root is not None or not fetch:
        searched = ", ".join(str(folder) for folder in folders)
        raise DataError(f"Fashion-MNIST: {names[0]}[.gz] and {names[1]}[.gz] not found in {searched}")
    folder = _cache_folder()
    for name in names:
        file = f"{name}.gz"
        download(URL + file, folder / file, SHA256[file], desc=file)
    return [folder / f"{name}.gz" for name in names]


def _usual_folders() -> list[Path]:
    folders = [_cache_folder(), DEBIAN_FOLDER]
    if given := os.environ.get("TINYNET_DATA"):
        folders = [Path(given), Path(given) / "fashion-mnist", *folders]
    return folders


def _cache_folder() -> Path:
    return user_cache("data", "fashion-mnist")


def _in_folder(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain or gzipped, under either spelling ('-idx3' or '.idx3')."""
    for candidate in (name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    return None
