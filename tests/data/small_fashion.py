"""Writes a tiny Fashion-MNIST: each class has its own bright row, so that a net can learn it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from tests.data.test_idx import idx_bytes


def write_small_fashion(folder: Path, train: int = 64, held_out: int = 24) -> Path:
    """The four gzipped IDX files in `folder`, which is made."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", held_out)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 4 + 2 * labels] = 250
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images), 1))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels), 1))
    return folder
