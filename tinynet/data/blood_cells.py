"""BCCD: 364 microscope images of blood, every cell in a box (Shenggan 2017, MIT License)."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from filelock import FileLock

from tinynet.data.detection import BoxTransform
from tinynet.data.voc import VocFolder
from tinynet.errors import DataError
from tinynet.utils.cache import user_cache
from tinynet.utils.download import download, file_sha256

CLASSES = ("RBC", "WBC", "Platelets")
SPLITS = ("train", "val", "test")
SIZE_LIMITS = (64.0, 144.0)  # platelets, red cells, white cells, in the images' 640×480 pixels
LONGER_SIDE = 640
COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
URL = f"https://codeload.github.com/Shenggan/BCCD_Dataset/tar.gz/{COMMIT}"
# GitHub may pack an archive differently every time, so that not it is checked but what came out of it.
CONTENT_SHA256 = "4e4be01c13a139818a66b63402a30b051853317a0fea3c6febcb40b53e363b8e"
LARGEST_MEMBER = 1 << 20  # bytes; the largest image has 40 kB


class BloodCells(VocFolder):
    """Red cells (RBC), white cells (WBC) and platelets in 205 training, 87 validation and 72 test images, 640×480.

    The folder `bccd` is looked for in `$TINYNET_DATA`, then in the user's cache; where neither has it,
    `download=True` fetches upstream's commit into the cache and checks all of it. A given `root` is the only place
    looked at.

    Two red cells of the 4,888 boxes are single points and are left out (`problems` names them). More is missing
    than that: in 15 images (8, 4 and 3 of the splits) no red cell at all is marked, although they show many.

    Args:
        longest: the longer side of the items in pixels, 640 as stored; 320 is what the recipes train on.

    Raises:
        DataError: files that are missing or damaged, or no connection; it names the path.
    """

    def __init__(
        self,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        download: bool = True,
        longest: int | None = None,
        transforms: BoxTransform | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"BloodCells: split must be one of {', '.join(SPLITS)}, got {split!r}")
        folder = _located(root, download)
        super().__init__(folder, split, CLASSES, skip_bad=None, longest=longest, transforms=transforms)
        lost = [problem for problem in self.problems if problem.loss == "image"]
        if lost:
            raise DataError(f"BloodCells: {folder} is damaged: {lost[0]} ({len(lost)} such files)")
        scale = min(1.0, (longest or LONGER_SIDE) / LONGER_SIDE)
        self.size_limits = (SIZE_LIMITS[0] * scale, SIZE_LIMITS[1] * scale)


def _located(root: str | os.PathLike[str] | None, fetch: bool) -> Path:
    cache = user_cache("data", "bccd")
    if root is not None:
        folders = [Path(root)]
    else:
        given = os.environ.get("TINYNET_DATA")
        folders = [Path(given) / "bccd", cache] if given else [cache]
    for folder in folders:
        if (folder / "ImageSets" / "Main").is_dir() and (folder / "Annotations").is_dir():
            return folder
    if root is not None or not fetch:
        raise DataError(f"BCCD: no Annotations, ImageSets and JPEGImages in {', '.join(map(str, folders))}")
    _fetch(cache)
    return cache


def _fetch(folder: Path) -> None:
    """Puts the data set into `folder`, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.with_name(f"bccd-{COMMIT[:7]}.tar.gz")
    partial = folder.with_name(".bccd.partial")
    with FileLock(folder.with_name(".bccd.lock")):
        if folder.is_dir():  # another process may have fetched it meanwhile
            return
        try:
            download(URL, archive, sha256="", desc="BCCD")
        except DataError as error:
            reason = str(error).partition(". Without a connection")[0]
            raise DataError(
                f"{reason}. Without a connection, get the folder BCCD of github.com/Shenggan/BCCD_Dataset elsewhere "
                f"and put it at {folder}"
            ) from error.__cause__
        try:
            _remove(partial)
            _unpack(archive, partial)
            digest = content_sha256(partial)
            if digest != CONTENT_SHA256:
                raise DataError(
                    f"{URL} has the wrong content: SHA-256 {digest} over its files instead of {CONTENT_SHA256}; "
                    "nothing was kept"
                )
            partial.rename(folder)
        finally:
            archive.unlink(missing_ok=True)
            _remove(partial)


def _unpack(archive: Path, folder: Path) -> None:
    """Writes the files of the folder `BCCD/`. Raises DataError at a link, or a path that leads out of it."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts[1:]  # after the name of the repository
                if parts[:1] != ("BCCD",) or member.isdir():
                    continue
                plain = member.isfile() and not {"..", "\\"} & {*parts, *member.name}
                if not plain or member.size > LARGEST_MEMBER:
                    raise DataError(f"{URL}: refused, because it holds {member.name!r}; nothing was kept")
                content = tar.extractfile(member)
                assert content is not None  # it is a file
                path = folder.joinpath(*parts[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{URL}: the archive cannot be unpacked ({error}); nothing was kept") from error


def content_sha256(folder: Path) -> str:
    """SHA-256 over the lines "digest  name" of the annotations, images and splits, sorted by name."""
    paths = [*folder.glob("Annotations/*.xml"), *folder.glob("JPEGImages/*.jpg")]
    paths += [path for split in SPLITS if (path := folder / "ImageSets" / "Main" / f"{split}.txt").is_file()]
    names = sorted((path.relative_to(folder).as_posix(), path) for path in paths)
    lines = "".join(f"{file_sha256(path)}  {name}\n" for name, path in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
