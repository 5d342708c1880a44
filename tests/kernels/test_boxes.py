"""nms and roi_align against definitions written here, a thousand random cases each, in all three backends."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.kernels.box_cases import KINDS, REGIONS, random_boxes, random_rois, random_scores
from tinynet import kernels
from tinynet.kernels import boxes as box_kernels

ALL = ("loops", "numpy", "numba")
CASES = 1000


def suppressed_by_definition(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    """All IoUs at once; best first, NaN before all numbers, and what a kept box overlaps is out."""
    x1, y1, x2, y2 = boxes.T
    with np.errstate(all="ignore"):
        area = (x2 - x1) * (y2 - y1)
        width = np.maximum(np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1), 0)
        height = np.maximum(np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1), 0)
        iou = width * height / (area[:, None] + area - width * height)
    overlaps = iou.astype(np.float64) > iou_threshold
    order = sorted(range(len(scores)), key=lambda i: (not np.isnan(scores[i]), -scores[i] if scores[i] >= 0 else 0))
    kept: list[int] = []
    for index in order:
        if not overlaps[kept, index].any():
            kept.append(index)
    return kept


def nms_cases():
    for number in range(CASES):
        rng = np.random.default_rng(number)
        kind = KINDS[number % len(KINDS)]
        dtype = (np.float32, np.float64)[number // 7 % 2]
        count = int(rng.integers(0, 24))
        threshold = float(rng.choice([0, 0.3, 1 / 3, 0.5, 0.6, 0.7, 1, rng.random()]))
        yield random_boxes(rng, count, kind, dtype), random_scores(rng, count, number % 3 > 0, dtype), threshold


@pytest.mark.parametrize("backend", ALL)
def test_nms_is_its_definition(backend):
    with kernels.backend(backend):
        for number, case in enumerate(nms_cases()):
            kept = box_kernels.nms(*case)
            assert kept.dtype == np.int64 and kept.ndim == 1
            assert kept.tolist() == suppressed_by_definition(*case), f"case {number}"


@pytest.mark.parametrize("backend", ALL)
def test_nms_compares_in_double_as_torch(backend):
    """3/5 in float32 is above 0.6: that IoU suppresses; 1/2 is not above 0.5."""
    boxes = np.array([[0, 0, 4, 1], [1, 0, 5, 1], [10, 0, 14, 1], [10, 0, 12, 1]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    with kernels.backend(backend):
        assert box_kernels.nms(boxes, scores, 0.6).tolist() == [0, 2, 3]
        assert box_kernels.nms(boxes, scores, 0.5).tolist() == [0, 2, 3]
        assert box_kernels.nms(boxes, scores, np.nextafter(0.5, 0)).tolist() == [0, 2]
        assert box_kernels.nms(boxes, scores, float(np.float32(0.6))).tolist() == [0, 1, 2, 3]


def test_nms_rounds_as_numpy_on_many_boxes():
    """A fused multiply-add would move IoUs that fall on the threshold by a rounding error."""
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 3000, "random")
    scores = random_scores(rng, 3000, False)
    x1, y1, x2, y2 = boxes[scores.argmax()]
    best = boxes[scores.argmax()]
    others = boxes[boxes[:, 0] != x1]
    width = np.maximum(np.minimum(x2, others[:, 2]) - np.maximum(x1, others[:, 0]), 0)
    height = np.maximum(np.minimum(y2, others[:, 3]) - np.maximum(y1, others[:, 1]), 0)
    area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    ious = width * height / ((x2 - x1) * (y2 - y1) + area - width * height)
    chosen = np.flatnonzero(ious > 0.1)[:200]
    assert len(chosen) == 200
    for other, iou in zip(others[chosen], ious[chosen]):  # the IoU itself does not exceed, a hair below it does
        pair = np.stack([best, other])
        for threshold, kept in ((float(iou), [0, 1]), (np.nextafter(float(iou), 0), [0])):
            for backend in ("numpy", "numba"):
                with kernels.backend(backend):
                    found = box_kernels.nms(pair, np.array([1, 0], np.float32), threshold)
                assert found.tolist() == kept


@pytest.mark.parametrize("kind", ["random", "crowded"])
def test_nms_of_twenty_thousand_boxes(kind):
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 20_000, kind)
    if kind == "random":  # spread out: nearly all remain, the slowest case
        boxes += np.float32(100) * np.stack(np.divmod(np.arange(20_000), 141), 1).astype(np.float32)[:, [0, 1, 0, 1]]
    scores = random_scores(rng, 20_000, False)
    box_kernels.nms(boxes[:9], scores[:9], 0.5)
    start = time.thread_time()
    kept = box_kernels.nms(boxes, scores, 0.5)
    assert time.thread_time() - start < 2
    with kernels.backend("numpy"):
        expected = box_kernels.nms(boxes[:3000], scores[:3000], 0.5)
    assert box_kernels.nms(boxes[:3000], scores[:3000], 0.5).tolist() == expected.tolist()
    assert len(kept) == 20_000 if kind == "random" else len(kept) < 5000


# --- RoIAlign ----------------------------------------------------------------------------------------------


def mixing(first, last, size, bins, spatial_scale, sampling_ratio, aligned) -> np.ndarray:
    """(bins, size): the share of each pixel in each bin along one axis, by hat functions around the pixels."""
    dtype = first.dtype.type
    start, end = first * dtype(spatial_scale), last * dtype(spatial_scale)
    if aligned:
        start, end = start - dtype(0.5), end - dtype(0.5)
    length = end - start if aligned else max(end - start, dtype(1))
    step = length / dtype(bins)
    count = sampling_ratio if sampling_ratio > 0 else int(np.ceil(step))
    shares = np.zeros((bins, size))
    for which in range(bins):
        for sample in range(count):
            position = start + dtype(which) * step + dtype(sample + 0.5) * step / dtype(count)
            if -1 <= position <= size:
                distance = np.abs(np.arange(size) - min(max(float(position), 0), size - 1))
                shares[which] += np.maximum(1 - distance, 0) / count
    return shares


def roi_cases(dtype):
    for number in range(CASES // 2):
        rng = np.random.default_rng(number)
        shape = (int(rng.integers(1, 4)), int(rng.integers(1, 20)), *(int(n) for n in rng.integers(1, 12, 2)))
        output_size = tuple(int(n) for n in rng.integers(1, 5, 2))
        scale = float(rng.choice([1, 0.5, 0.25, 0.3]))
        settings = (scale, int(rng.choice([-1, 0, 1, 2, 3])), bool(number % 2))
        rois = random_rois(rng, shape, int(rng.integers(0, 4)), scale, dtype)
        yield rng, rng.standard_normal(shape).astype(dtype), rois, output_size, settings


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_roi_align_is_its_definition(backend, dtype):
    tolerance = 1e-12 if dtype == np.float64 else 5e-6
    outside = 0
    with kernels.backend(backend):
        for rng, x, rois, output_size, settings in roi_cases(dtype):
            y = box_kernels.roi_align(x, rois, output_size, *settings)
            assert y.shape == (len(rois), x.shape[1], *output_size) and y.dtype == dtype
            grad = rng.standard_normal(y.shape).astype(dtype)
            grad_x = box_kernels.roi_align_backward(grad, rois, x.shape, *settings)
            assert grad_x.shape == x.shape and grad_x.dtype == dtype
            expected, expected_grad = np.zeros(y.shape), np.zeros(x.shape)
            for k, roi in enumerate(rois):
                rows = mixing(roi[2], roi[4], x.shape[2], output_size[0], *settings)
                columns = mixing(roi[1], roi[3], x.shape[3], output_size[1], *settings)
                expected[k] = rows @ x[int(roi[0])] @ columns.T
                expected_grad[int(roi[0])] += rows.T @ grad[k] @ columns
                outside += rows.sum() * columns.sum() == 0
            np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * 5)
            np.testing.assert_allclose(grad_x, expected_grad, rtol=0, atol=tolerance * 20)
    assert outside > 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", range(len(REGIONS)))
def test_roi_align_of_the_loops(number, dtype):
    """The definition that a lesson derives, on the fixed cases."""
    shape, count, output_size, *settings = REGIONS[number]
    rng = np.random.default_rng(number)
    x, rois = rng.standard_normal(shape).astype(dtype), random_rois(rng, shape, count, settings[0], dtype)
    grad = rng.standard_normal((count, shape[1], *output_size)).astype(dtype)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    results = {}
    for backend in ALL:
        with kernels.backend(backend):
            y = box_kernels.roi_align(x, rois, output_size, *settings)
            grad_x = box_kernels.roi_align_backward(grad, rois, shape, *settings)
        assert y.dtype == grad_x.dtype == dtype
        results[backend] = (y, grad_x)
    for backend in ("numpy", "numba"):
        for got, wanted in zip(results[backend], results["loops"]):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


def test_roi_align_is_the_same_on_one_thread():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 70, 40, 40)).astype(np.float32)
    rois = random_rois(rng, x.shape, 100, 1.0, np.float32)
    grad = rng.standard_normal((100, 70, 5, 5)).astype(np.float32)
    results = []
    before = kernels.get_num_threads()
    try:
        for threads in (1, kernels.launch.available_threads()):
            kernels.set_num_threads(threads)
            results.append((
                box_kernels.roi_align(x, rois, (5, 5), 1.0, 2, True),
                box_kernels.roi_align_backward(grad, rois, x.shape, 1.0, 2, True),
            ))  # fmt: skip
    finally:
        kernels.set_num_threads(before)
    for one, more in zip(*results):
        assert np.array_equal(one, more)


def test_what_a_sample_does_not_read_does_not_matter():
    """NaN elsewhere on the map stays there, in every backend."""
    x = np.full((1, 2, 8, 8), np.nan)
    x[:, :, 2:5, 2:5] = 1
    rois = np.array([[0, 2.5, 2.5, 4.5, 4.5], [0, 90, 90, 95, 95]])
    for backend in ALL:
        with kernels.backend(backend):
            y = box_kernels.roi_align(x, rois, (2, 2), 1.0, 2, True)
        assert (y[0] == 1).all() and (y[1] == 0).all()


def test_your_own_nms_and_its_length():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 10, 10]], np.float32)
    scores = np.array([0.1, 0.2, 0.3], np.float32)
    with kernels.override(nms=lambda boxes, scores, iou_threshold: np.array([2, 1], np.int64)) as report:
        assert box_kernels.nms(boxes, scores, 0.5).tolist() == [2, 1]
    assert report.calls == {"nms": 1}
    with kernels.override(nms=lambda boxes, scores, iou_threshold: np.argsort(-scores)):
        with pytest.raises(ValueError, match=r"your nms returned shape \(3,\), expected \(2,\) for boxes \(3, 4\)"):
            box_kernels.nms(boxes, scores, 0.5)
