"""Weights that torchvision publishes: their names, where they are looked for, and how they are checked.

Source: torchvision.models, the classes `ResNet50_Weights` and so on. A file's name ends with the first digits of
its SHA-256.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tinynet.errors import CheckpointError
from tinynet.utils.cache import user_cache
from tinynet.utils.download import download, file_sha256

ADDRESS = "https://download.pytorch.org/models/"
V1, V2, COCO = "IMAGENET1K_V1", "IMAGENET1K_V2", "COCO_V1"
DEFAULT = "DEFAULT"  # the best: the last of an architecture's
FILES: dict[str, dict[str, str]] = {
    "resnet18": {V1: "resnet18-f37072fd.pth"},
    "resnet34": {V1: "resnet34-b627a593.pth"},
    "resnet50": {V1: "resnet50-0676ba61.pth", V2: "resnet50-11ad3fa6.pth"},
    "resnet101": {V1: "resnet101-63fe2227.pth", V2: "resnet101-cd907fc2.pth"},
    "resnet152": {V1: "resnet152-394f9c45.pth", V2: "resnet152-f82ba261.pth"},
    "resnext50_32x4d": {V1: "resnext50_32x4d-7cdf4587.pth", V2: "resnext50_32x4d-1a0047aa.pth"},
    "resnext101_32x8d": {V1: "resnext101_32x8d-8ba56ff5.pth", V2: "resnext101_32x8d-110c445d.pth"},
    "resnext101_64x4d": {V1: "resnext101_64x4d-173b62eb.pth"},
    "wide_resnet50_2": {V1: "wide_resnet50_2-95faca4d.pth", V2: "wide_resnet50_2-9ba9bcbe.pth"},
    "wide_resnet101_2": {V1: "wide_resnet101_2-32ee1156.pth", V2: "wide_resnet101_2-d733dc28.pth"},
    "retinanet_resnet50_fpn": {COCO: "retinanet_resnet50_fpn_coco-eeacb38b.pth"},
    "retinanet_resnet50_fpn_v2": {COCO: "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"},
    "fcos_resnet50_fpn": {COCO: "fcos_resnet50_fpn_coco-99b0c9b7.pth"},
}
PUBLISHED = frozenset(file for files in FILES.values() for file in files.values())


def find_weights(source: str | os.PathLike[str], architecture: str | None) -> Path:
    """The file that `source` means: a path, or the name of published weights of `architecture`.

    Published weights are looked for in `$TINYNET_DATA/weights`, then in the user's cache, and else downloaded to
    it. A file with a published name must have the hash in it, wherever it is.

    Raises:
        CheckpointError: an unknown name, or a file that does not have the hash in its name.
        DataError: the download failed; it names the file, its address, and where to put it by hand.
    """
    if not is_published_name(source):
        return _checked(Path(source))
    file = _published_file(str(source), architecture)
    for folder in _own_folders():
        if (folder / file).is_file():
            return _checked(folder / file)
    return download(ADDRESS + file, user_cache("weights") / file, _hash(file), desc=file)


def is_published_name(source: str | os.PathLike[str]) -> bool:
    """Whether it is written as names of weights are, and no file is called so."""
    return isinstance(source, str) and re.fullmatch("[A-Z0-9_]+", source) is not None and not Path(source).exists()


def _published_file(name: str, architecture: str | None) -> str:
    if architecture is None:
        raise CheckpointError(
            f"{name!r} is no file; as the name of published weights it needs the architecture: {', '.join(FILES)}"
        )
    files = FILES.get(architecture, {})
    known = {**files, DEFAULT: list(files.values())[-1]} if files else {}
    if name not in known:
        there_is = f"there is {', '.join(known)}" if known else "there are none"
        raise CheckpointError(f"{name!r} is neither a file nor published weights of {architecture}: {there_is}")
    return known[name]


def _own_folders() -> list[Path]:
    given = os.environ.get("TINYNET_DATA")
    return [Path(given) / "weights"] if given else []


def _checked(path: Path) -> Path:
    """Refuses a published file that was changed: torch's older layout has no checksum of its own."""
    if path.name in PUBLISHED and path.is_file():
        digest = file_sha256(path)
        if not digest.startswith(_hash(path.name)):
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 begins with {digest[:8]}, its name says {_hash(path.name)} "
                "(a file of your own needs another name)"
            )
    return path


def _hash(file: str) -> str:
    return file.removesuffix(".pth").rpartition("-")[2]
