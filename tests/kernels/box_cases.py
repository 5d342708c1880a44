"""Boxes that break things (ties, empty, inverted, doubled, NaN), and calls of the kernels that take boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

KINDS = ("random", "whole", "halves", "crowded", "inverted", "broken")


def random_boxes(rng: np.random.Generator, count: int, kind: str, dtype: type = np.float32) -> np.ndarray:
    """(count, 4): anywhere, on whole or half pixels (equal overlaps), in a crowd with doubles, upside down, or
    empty, inverted and not finite.
    """
    corner = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 30, (count, 2))], axis=1)
    if kind in ("whole", "halves"):
        grid = 1 if kind == "whole" else 2
        boxes = np.round(boxes * grid) / grid
    if kind in ("crowded", "broken"):
        boxes = np.round(boxes / 8) * 8
        if count:
            boxes[rng.random(count) < 0.3] = boxes[rng.integers(count)]
    if kind == "inverted":
        upside_down = rng.random(count) < 0.8
        boxes[upside_down] = boxes[upside_down][:, [0, 3, 2, 1]]
    if kind == "broken":
        inverted, empty = rng.random((2, count)) < 0.2
        boxes[inverted] = boxes[inverted][:, [2, 3, 0, 1]]
        boxes[empty, 2] = boxes[empty, 0]
        boxes[rng.random(count) < 0.1, rng.integers(4)] = rng.choice([np.nan, np.inf, -np.inf])
    return boxes.astype(dtype)


def random_scores(rng: np.random.Generator, count: int, ties: bool, dtype: type = np.float32) -> np.ndarray:
    """(count,) in [0, 1]; with `ties` six different values only, and now and then NaN."""
    scores = rng.integers(0, 6, count) / 5 if ties else rng.random(count)
    if ties:
        scores[rng.random(count) < 0.03] = np.nan
    return scores.astype(dtype)


def random_rois(rng: np.random.Generator, shape, count: int, scale: float, dtype: type = np.float64) -> np.ndarray:
    """(count, 5): regions in, across and outside of maps `shape` (N, C, H, W), some empty, some inverted."""
    size = np.array([shape[3], shape[2]]) / scale
    first = rng.uniform(-0.6, 1.1, (count, 2)) * size
    last = first + rng.uniform(-0.2, 1.2, (count, 2)) * size
    rois = np.concatenate([rng.integers(0, max(shape[0], 1), (count, 1)), first, last], axis=1)
    rounded = rng.random(count) < 0.4
    rois[rounded] = np.round(rois[rounded] * 2) / 2
    empty = rng.random(count) < 0.1
    rois[empty, 3:] = rois[empty, 1:3]
    return rois.astype(dtype)


# (input, regions, output size, spatial scale, sampling ratio, aligned)
REGIONS = [
    ((2, 3, 7, 6), 4, (3, 3), 1.0, -1, False),
    ((1, 5, 9, 8), 3, (2, 4), 0.5, 2, True),
    ((2, 18, 6, 5), 5, (1, 3), 0.25, 0, True),
    ((3, 2, 1, 1), 3, (2, 2), 1.0, 1, False),
    ((2, 3, 5, 5), 0, (2, 2), 1.0, 2, False),
    ((0, 3, 5, 5), 0, (2, 2), 1.0, 2, False),
]


def box_calls() -> Iterator[tuple[str, str, Any]]:
    """(kernel, name, arguments(rng, dtype)) of every call."""
    for count in (0, 1, 33):
        for kind in KINDS:
            yield (
                "nms",
                f"{count} {kind}",
                lambda r, d, n=count, k=kind: (random_boxes(r, n, k, d), random_scores(r, n, k != "random", d), 0.5),
            )
    for number, (shape, count, output_size, scale, ratio, aligned) in enumerate(REGIONS):
        settings = (scale, ratio, aligned)

        def rois(rng, dtype, shape=shape, count=count, scale=scale):
            return random_rois(rng, shape, count, scale, dtype)

        yield (
            "roi_align",
            str(number),
            lambda r, d, x=shape, rois=rois, o=output_size, s=settings: (
                r.standard_normal(x).astype(d), rois(r, d), o, *s,
            ),
        )  # fmt: skip
        yield (
            "roi_align_backward",
            str(number),
            lambda r, d, x=shape, rois=rois, k=count, o=output_size, s=settings: (
                r.standard_normal((k, x[1], *o)).astype(d), rois(r, d), x, *s,
            ),
        )  # fmt: skip
    for shape in ((0,), (7,), (3, 4, 5), (1, 1)):
        for alpha, gamma in ((0.25, 2.0), (-1, 1.5), (0.9, 0.0), (0.5, 1.0)):
            yield (
                "focal_loss",
                f"{shape} {alpha} {gamma}",
                lambda r, d, s=shape, a=alpha, g=gamma: (
                    (9 * r.standard_normal(s)).astype(d), r.integers(0, 2, s).astype(d), a, g,
                ),
            )  # fmt: skip
