"""What detection items have in common, and how they become batches in a loader."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.data import DetectionDataset, HandwritingScenes, box_transforms, collate_detection
from tinynet.data.detection import make_target
from tinynet.utils.data import DataLoader


class Two(DetectionDataset):
    """A 4×6 and a 5×6 image, the second one of nothing."""

    def __len__(self) -> int:
        return 2

    def pixels(self, index: int) -> np.ndarray:
        return np.full((3, 4 + index, 6), 51 * (1 + index), np.uint8)

    def annotation(self, index: int):
        return make_target([] if index else [(0, 0, 2, 3)], [] if index else [1], index)


def test_items_are_tensors() -> None:
    data = Two(["a", "b"])
    image, target = data[1]
    assert image.shape == (3, 5, 6) and image.numpy() == pytest.approx(np.full((3, 5, 6), 0.4))
    assert target["boxes"].shape == (0, 4) and target["labels"].dtype == tinynet.int64
    assert data[0][1]["area"].tolist() == [6]
    assert data.mean == pytest.approx([(0.2 * 24 + 0.4 * 30) / 54] * 3)


def test_transforms_run_before() -> None:
    flip = box_transforms.RandomHorizontalFlip(1.0)
    assert Two(["a", "b"], flip)[0][1]["boxes"].tolist() == [[4, 0, 6, 3]]


def test_batches() -> None:
    data = Two(["a"])
    images, targets = collate_detection([data[0], data[0]])
    assert images.shape == (2, 3, 4, 6) and [target["image_id"] for target in targets] == [0, 0]
    images, targets = collate_detection([data[0], data[1]])
    assert [tuple(image.shape) for image in images] == [(3, 4, 6), (3, 5, 6)] and len(targets) == 2
    assert collate_detection([]) == ([], [])


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_loader(workers: int) -> None:
    data = HandwritingScenes(count=10, size=64)
    loader = DataLoader(data, batch_size=4, collate_fn=collate_detection, num_workers=workers)
    seen = 0
    for images, targets in loader:
        assert images.shape[1:] == (1, 64, 64) and len(images) == len(targets)
        for image, target in zip(images, targets):
            assert np.array_equal(image.numpy(), data[target["image_id"]][0].numpy())
            assert np.array_equal(target["boxes"].numpy(), data.annotation(target["image_id"])["boxes"])
            seen += 1
    assert seen == 10
