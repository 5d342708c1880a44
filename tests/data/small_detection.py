"""Writes small detection data sets in the field's formats: grey images with bright boxes on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Boxes = Sequence[tuple[str, float, float, float, float]]  # class, x0, y0, x1, y1


def write_image(path: Path, boxes: Boxes = (), width: int = 60, height: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 40, np.uint8)
    for _, x0, y0, x1, y1 in boxes:
        pixels[int(y0) : int(y1), int(x0) : int(x1)] = 220
    Image.fromarray(pixels).save(path)


def voc_xml(name: str, boxes: Boxes, width: int = 60, height: int = 40) -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, x0, y0, x1, y1 in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


GOOD: dict[str, Boxes] = {
    "one": [("cat", 5, 6, 25, 30), ("dog", 30, 10, 50, 20)],
    "two": [("dog", 0, 0, 60, 40)],
    "three": [("cat", 10, 10, 20, 20), ("cat", 40.5, 5.5, 59.5, 39.5)],
    "four": [("dog", 3, 3, 9, 30)],
    "five": [("cat", 20, 20, 40, 40)],
}


def write_voc(folder: Path, images: dict[str, Boxes] = GOOD, splits: dict[str, Sequence[str]] | None = None,
              flat: bool = False) -> Path:
    for name, boxes in images.items():
        write_image((folder if flat else folder / "JPEGImages") / f"{name}.png", boxes)
        annotation = (folder if flat else folder / "Annotations") / f"{name}.xml"
        annotation.parent.mkdir(exist_ok=True)
        annotation.write_text(voc_xml(f"{name}.png", boxes))
    for split, names in (splits or {}).items():
        path = folder / "ImageSets" / "Main" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    return folder


def coco_content(images: dict[str, Boxes] = GOOD) -> dict[str, list[dict]]:
    """Category ids 3 (cat) and 7 (dog), image ids from 100."""
    ids = {"cat": 3, "dog": 7}
    content: dict[str, list[dict]] = {
        "images": [], "annotations": [], "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    }  # fmt: skip
    for place, (name, boxes) in enumerate(images.items()):
        content["images"].append({"id": 100 + place, "file_name": f"{name}.png", "width": 60, "height": 40})
        for label, x0, y0, x1, y1 in boxes:
            content["annotations"].append(
                {"id": 1 + len(content["annotations"]), "image_id": 100 + place, "category_id": ids[label],
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": 0.5 * (x1 - x0) * (y1 - y0), "iscrowd": 0}
            )  # fmt: skip
    return content


def write_coco(images_folder: Path, file: Path, images: dict[str, Boxes] = GOOD, content: dict | None = None) -> Path:
    for name, boxes in images.items():
        write_image(images_folder / f"{name}.png", boxes)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(coco_content(images) if content is None else content))
    return file
