"""Boxes (x1, y1, x2, y2): non-maximum suppression, and RoIAlign (He et al. 2017, section 3; torchvision.ops)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynet.kernels.launch import inner, jit, launch, prange
from tinynet.kernels.layout import channels_last_empty, pixels
from tinynet.kernels.registry import Kernel

# --- non-maximum suppression -------------------------------------------------------------------------------


def best_first(scores: np.ndarray) -> np.ndarray:
    """Indices by descending score; equal scores keep their order, NaN counts as the largest, as in torch."""
    return (len(scores) - 1 - np.argsort(scores[::-1], kind="stable"))[::-1]


def _nms_loops(boxes, scores, iou_threshold):
    kept: list[int] = []
    with np.errstate(all="ignore"):
        for index in best_first(scores):
            if not any(_iou(boxes[better], boxes[index]) > iou_threshold for better in kept):
                kept.append(index)
    return np.array(kept, np.int64)


def _iou(a, b) -> float:
    """Shared area over joint area; NaN for two empty boxes, which then do not overlap."""
    zero = a.dtype.type(0)
    width = max(zero, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(zero, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return float(shared / (area_a + area_b - shared))


def _nms_numpy(boxes, scores, iou_threshold):
    """Indices (int64) of the boxes (N, 4) to keep, best first: the best one, without those that overlap it by
    more than iou_threshold, then the best of the rest, and so on.
    """
    limit = _largest_up_to(iou_threshold, boxes.dtype)
    order = best_first(scores)
    x1, y1, x2, y2, areas = _sides(boxes)
    kept = []
    with np.errstate(all="ignore"):
        while len(order):
            best, rest = order[0], order[1:]
            kept.append(best)
            width = np.maximum(np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]), 0)
            height = np.maximum(np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]), 0)
            shared = width * height
            order = rest[~(shared / (areas[best] + areas[rest] - shared) > limit)]
    return np.array(kept, np.int64)


def _largest_up_to(threshold: float, dtype: np.dtype) -> np.floating:
    """IoUs of `dtype` are compared with a double in torch: the same as with the largest `dtype` up to it."""
    rounded = dtype.type(threshold)
    return rounded if float(rounded) <= threshold else np.nextafter(rounded, dtype.type(-np.inf))


def _sides(boxes: np.ndarray) -> tuple[np.ndarray, ...]:
    """x1, y1, x2, y2 and the area of every box, each contiguous."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    with np.errstate(all="ignore"):
        return x1, y1, x2, y2, (x2 - x1) * (y2 - y1)


at = np.uint64  # an index known to be at least 0, see im2col.py


@inner
def _nms_compiled(x1, y1, x2, y2, areas, limit, shared, totals, suppressed, kept, count):
    """Boxes arrive best first. Products and sums meet in memory, never in a fused multiply-add: the IoU is
    rounded exactly as in the definition, and a tie with the limit stays a tie.
    """
    boxes = len(areas)
    zero = shared[0] * 0
    found = 0
    for best in range(boxes):
        if suppressed[best]:
            continue
        kept[found] = best
        found += 1
        left, top, right, bottom, area = x1[best], y1[best], x2[best], y2[best], areas[best]
        for other in range(best + 1, boxes):
            width = min(right, x2[at(other)]) - max(left, x1[at(other)])
            height = min(bottom, y2[at(other)]) - max(top, y1[at(other)])
            shared[at(other)] = (width if width > 0 else zero) * (height if height > 0 else zero)
            totals[at(other)] = area + areas[at(other)]
        for other in range(best + 1, boxes):
            suppressed[at(other)] |= shared[at(other)] / (totals[at(other)] - shared[at(other)]) > limit
    count[0] = found


def _nms_numba(boxes, scores, iou_threshold):
    order = best_first(scores)
    if not len(order):
        return np.empty(0, np.int64)
    sides = _sides(boxes[order])
    scratch = np.zeros((2, len(order)), boxes.dtype)
    suppressed = np.zeros(len(order), np.bool_)
    kept, count = np.empty(len(order), np.int64), np.zeros(1, np.int64)
    limit = _largest_up_to(iou_threshold, boxes.dtype)
    launch(_nms_compiled, *sides, limit, scratch[0], scratch[1], suppressed, kept, count, cost=1)
    return order[kept[: count[0]]]


# --- RoIAlign: where it reads ------------------------------------------------------------------------------


def _roi_axis(first, last, bins, spatial_scale, sampling_ratio, aligned):
    """Along one axis, of RoIs (a scalar or an array each): where they start, a bin's length, samples per bin."""
    dtype = first.dtype.type
    offset = dtype(0.5 if aligned else 0)
    start = first * dtype(spatial_scale) - offset
    length = (last * dtype(spatial_scale) - offset) - start
    if not aligned:
        length = np.maximum(length, dtype(1))
    bin_length = length / dtype(bins)
    samples = np.full_like(bin_length, sampling_ratio) if sampling_ratio > 0 else np.maximum(np.ceil(bin_length), 0)
    return start, bin_length, samples.astype(np.int64)


def roi_samples(rois, output_size, spatial_scale, sampling_ratio, aligned) -> tuple[np.ndarray, np.ndarray]:
    """Samples per bin along y and along x, for every RoI (K, 5)."""
    settings = (spatial_scale, sampling_ratio, aligned)
    rows = _roi_axis(rois[:, 2], rois[:, 4], output_size[0], *settings)
    columns = _roi_axis(rois[:, 1], rois[:, 3], output_size[1], *settings)
    return rows[2], columns[2]


def _position(axis, which_bin, sample):
    """The coordinate of one sample: the samples divide their bin evenly."""
    start, bin_length, samples = axis
    dtype = start.dtype.type
    return start + dtype(which_bin) * bin_length + dtype(sample + 0.5) * bin_length / dtype(samples)


# --- RoIAlign: the definition ------------------------------------------------------------------------------


def _neighbours(position, size: int):
    """The two pixels around a coordinate with their weights; at most a pixel outside counts as the edge."""
    position = max(position, position.dtype.type(0))
    low = int(position)
    if low >= size - 1:
        return ((size - 1, 1.0),)
    return (low, 1 - (position - low)), (low + 1, position - low)


def _roi_reads(roi, size, output_size, spatial_scale, sampling_ratio, aligned):
    """(bin row, bin column, pixel row, pixel column, weight) of everything that one RoI reads."""
    height, width = size
    settings = (spatial_scale, sampling_ratio, aligned)
    vertical = _roi_axis(roi[2], roi[4], output_size[0], *settings)
    horizontal = _roi_axis(roi[1], roi[3], output_size[1], *settings)
    samples = int(vertical[2]), int(horizontal[2])
    for i, j in np.ndindex(*output_size):
        for m, n in np.ndindex(*samples):
            y, x = _position(vertical, i, m), _position(horizontal, j, n)
            if -1 <= y <= height and -1 <= x <= width:
                for row, row_weight in _neighbours(y, height):
                    for column, column_weight in _neighbours(x, width):
                        yield i, j, row, column, row_weight * column_weight / (samples[0] * samples[1])


def _roi_align_loops(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    y = np.zeros((len(rois), x.shape[1], *output_size), x.dtype)
    for k, roi in enumerate(rois):
        reads = _roi_reads(roi, x.shape[2:], output_size, spatial_scale, sampling_ratio, aligned)
        for i, j, row, column, weight in reads:
            y[k, :, i, j] += weight * x[int(roi[0]), :, row, column]
    return y


def _roi_align_backward_loops(grad, rois, input_shape, spatial_scale, sampling_ratio, aligned):
    grad_x = np.zeros(input_shape, grad.dtype)
    for k, roi in enumerate(rois):
        reads = _roi_reads(roi, input_shape[2:], grad.shape[2:], spatial_scale, sampling_ratio, aligned)
        for i, j, row, column, weight in reads:
            grad_x[int(roi[0]), :, row, column] += weight * grad[k, :, i, j]
    return grad_x


# --- RoIAlign: tables for NumPy and Numba ------------------------------------------------------------------


class Reads(NamedTuple):
    """What the samples of all RoIs read along one axis; RoI k has bins · samples[k] of them, from first[k]."""

    first: np.ndarray
    samples: np.ndarray  # per bin
    low: np.ndarray
    high: np.ndarray
    low_weight: np.ndarray
    high_weight: np.ndarray
    inside: np.ndarray


def _reads(first, last, size: int, bins: int, *settings) -> Reads:
    start, bin_length, samples = _roi_axis(first, last, bins, *settings)
    per_roi = bins * samples
    ends = np.cumsum(per_roi)
    roi = np.repeat(np.arange(len(samples)), per_roi)
    number = np.arange(len(roi)) - (ends - per_roi)[roi]
    each = samples[roi]
    which_bin = number // each
    dtype = start.dtype
    position = (
        start[roi]
        + which_bin.astype(dtype) * bin_length[roi]
        + (number - which_bin * each + 0.5).astype(dtype) * bin_length[roi] / each.astype(dtype)
    )
    inside = (position >= -1) & (position <= size)
    position = np.clip(position, 0, size - 1)
    low = position.astype(np.int64)
    weight = position - low.astype(dtype)
    return Reads(ends - per_roi, samples, low, np.minimum(low + 1, size - 1), 1 - weight, weight, inside)


def _tables(rois, size, output_size, *settings) -> tuple[Reads, Reads]:
    rows = _reads(rois[:, 2], rois[:, 4], size[0], output_size[0], *settings)
    columns = _reads(rois[:, 1], rois[:, 3], size[1], output_size[1], *settings)
    return rows, columns


def _of_roi(reads: Reads, k: int, bins: int) -> Reads:
    """RoI k's own part of the tables."""
    part = slice(reads.first[k], reads.first[k] + bins * reads.samples[k])
    return Reads(reads.first[k], reads.samples[k], *(table[part] for table in reads[2:]))


def _blend(values: np.ndarray, reads: Reads) -> np.ndarray:
    """Samples along the last axis of `values`; outside they are 0."""
    mixed = values[..., reads.low] * reads.low_weight + values[..., reads.high] * reads.high_weight
    return np.where(reads.inside, mixed, values.dtype.type(0))


def _scatter(grad: np.ndarray, reads: Reads, size: int) -> np.ndarray:
    """The transpose of `_blend`: adds every sample's gradient at the two positions it read."""
    grad = np.where(reads.inside, grad, grad.dtype.type(0))
    total = np.zeros((size, *grad.shape[:-1]), grad.dtype)
    np.add.at(total, reads.low, np.moveaxis(grad * reads.low_weight, -1, 0))
    np.add.at(total, reads.high, np.moveaxis(grad * reads.high_weight, -1, 0))
    return np.moveaxis(total, 0, -1)


def _roi_align_numpy(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """Each RoI (image, x1, y1, x2, y2) of x (N, C, H, W) as output_size bins: the mean over a bin's bilinear
    samples, sampling_ratio² of them or, from 0 down, one per pixel. Result (K, C, *output_size).
    """
    tables = _tables(rois, x.shape[2:], output_size, spatial_scale, sampling_ratio, aligned)
    y = np.zeros((len(rois), x.shape[1], *output_size), x.dtype)
    for k, image in enumerate(rois[:, 0].astype(np.int64)):
        rows, columns = (_of_roi(table, k, bins) for table, bins in zip(tables, output_size))
        if rows.samples and columns.samples:
            sampled = _blend(_blend(x[image].swapaxes(1, 2), rows).swapaxes(1, 2), columns)
            y[k] = sampled.reshape(-1, output_size[0], rows.samples, output_size[1], columns.samples).mean((2, 4))
    return y


def _roi_align_backward_numpy(grad, rois, input_shape, spatial_scale, sampling_ratio, aligned):
    """Each bin's gradient added at the pixels that its samples read, by their weights."""
    output_size = grad.shape[2:]
    tables = _tables(rois, input_shape[2:], output_size, spatial_scale, sampling_ratio, aligned)
    grad_x = np.zeros(input_shape, grad.dtype)
    for k, image in enumerate(rois[:, 0].astype(np.int64)):
        rows, columns = (_of_roi(table, k, bins) for table, bins in zip(tables, output_size))
        if rows.samples and columns.samples:
            share = grad[k] / grad.dtype.type(rows.samples * columns.samples)
            sampled = share.repeat(rows.samples, axis=1).repeat(columns.samples, axis=2)
            over_columns = _scatter(sampled, columns, input_shape[3])
            grad_x[image] += _scatter(over_columns.swapaxes(1, 2), rows, input_shape[2]).swapaxes(1, 2)
    return grad_x


# --- RoIAlign: Numba ---------------------------------------------------------------------------------------

_CHANNELS_PER_TASK = 64  # backward is divided by channels, so that no two tasks add to the same number


@jit
def _roi_align_compiled(x, images, counts,
                        row_first, row_samples, row_low, row_high, row_low_weight, row_high_weight, row_inside,
                        column_first, column_samples, column_low, column_high, column_low_weight,
                        column_high_weight, column_inside, y):  # fmt: skip
    rois, bin_rows, bin_columns, channels = y.shape
    for k in prange(rois):
        image, count = images[k], counts[k]
        for i in range(bin_rows):
            for j in range(bin_columns):
                for c in range(channels):
                    y[k, i, j, at(c)] = 0
                first_row = row_first[k] + i * row_samples[k]
                first_column = column_first[k] + j * column_samples[k]
                for m in range(first_row, first_row + row_samples[k]):
                    for n in range(first_column, first_column + column_samples[k]):
                        if not (row_inside[m] and column_inside[n]):
                            continue
                        above, below, left, right = row_low[m], row_high[m], column_low[n], column_high[n]
                        above_left = row_low_weight[m] * column_low_weight[n]
                        above_right = row_low_weight[m] * column_high_weight[n]
                        below_left = row_high_weight[m] * column_low_weight[n]
                        below_right = row_high_weight[m] * column_high_weight[n]
                        for c in range(channels):
                            y[k, i, j, at(c)] += (
                                x[image, above, left, at(c)] * above_left
                                + x[image, above, right, at(c)] * above_right
                                + x[image, below, left, at(c)] * below_left
                                + x[image, below, right, at(c)] * below_right
                            )
                for c in range(channels):
                    y[k, i, j, at(c)] /= count


@jit
def _roi_align_backward_compiled(grad, images, counts,
                                 row_first, row_samples, row_low, row_high, row_low_weight, row_high_weight,
                                 row_inside, column_first, column_samples, column_low, column_high,
                                 column_low_weight, column_high_weight, column_inside, grad_x, block):  # fmt: skip
    rois, bin_rows, bin_columns, channels = grad.shape
    for task in prange((channels + block - 1) // block):
        first_channel = task * block
        last_channel = min(first_channel + block, channels)
        for k in range(rois):
            image, count = images[k], counts[k]
            for i in range(bin_rows):
                for j in range(bin_columns):
                    first_row = row_first[k] + i * row_samples[k]
                    first_column = column_first[k] + j * column_samples[k]
                    for m in range(first_row, first_row + row_samples[k]):
                        for n in range(first_column, first_column + column_samples[k]):
                            if not (row_inside[m] and column_inside[n]):
                                continue
                            above, below, left, right = row_low[m], row_high[m], column_low[n], column_high[n]
                            above_left = row_low_weight[m] * column_low_weight[n] / count
                            above_right = row_low_weight[m] * column_high_weight[n] / count
                            below_left = row_high_weight[m] * column_low_weight[n] / count
                            below_right = row_high_weight[m] * column_high_weight[n] / count
                            for c in range(first_channel, last_channel):
                                grad_x[image, above, left, at(c)] += grad[k, i, j, at(c)] * above_left
                                grad_x[image, above, right, at(c)] += grad[k, i, j, at(c)] * above_right
                                grad_x[image, below, left, at(c)] += grad[k, i, j, at(c)] * below_left
                                grad_x[image, below, right, at(c)] += grad[k, i, j, at(c)] * below_right


def _arguments(rois, size, output_size, *settings) -> tuple[tuple[np.ndarray, ...], int]:
    """What the compiled kernels read beside activations, and how many samples that makes in all."""
    rows, columns = _tables(rois, size, output_size, *settings)
    counts = rows.samples * columns.samples
    arguments = (rois[:, 0].astype(np.int64), np.maximum(counts, 1).astype(rois.dtype), *rows, *columns)
    return arguments, int(counts.sum()) * output_size[0] * output_size[1]


def _roi_align_numba(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    y = channels_last_empty((len(rois), x.shape[1], *output_size), x.dtype)
    if y.size:
        tables, samples = _arguments(rois, x.shape[2:], output_size, spatial_scale, sampling_ratio, aligned)
        launch(_roi_align_compiled, pixels(x), *tables, pixels(y), cost=2.0 * x.shape[1] * samples)
    return y


def _roi_align_backward_numba(grad, rois, input_shape, spatial_scale, sampling_ratio, aligned):
    grad_x = channels_last_empty(tuple(input_shape), grad.dtype)
    grad_x[...] = 0
    if grad.size:
        size, output_size = input_shape[2:], grad.shape[2:]
        tables, samples = _arguments(rois, size, output_size, spatial_scale, sampling_ratio, aligned)
        arrays = (pixels(grad), *tables, pixels(grad_x))
        launch(_roi_align_backward_compiled, *arrays, _CHANNELS_PER_TASK, cost=4.0 * input_shape[1] * samples)
    return grad_x


# --- kernels -----------------------------------------------------------------------------------------------

nms = Kernel(
    "nms",
    "boxes",
    loops=_nms_loops,
    numpy=_nms_numpy,
    numba=_nms_numba,
    shapes=lambda *args: (_nms_numpy(*args).shape,),  # how many remain, only the suppression itself can say
    integer_results=(0,),
)

roi_align = Kernel(
    "roi_align",
    "boxes",
    loops=_roi_align_loops,
    numpy=_roi_align_numpy,
    numba=_roi_align_numba,
    shapes=lambda x, rois, output_size, *rest: ((len(rois), x.shape[1], *output_size),),
)

roi_align_backward = Kernel(
    "roi_align_backward",
    "boxes",
    loops=_roi_align_backward_loops,
    numpy=_roi_align_backward_numpy,
    numba=_roi_align_backward_numba,
    shapes=lambda grad, rois, input_shape, *rest: (tuple(input_shape),),
)
