"""A convolution's weight gradient: for every tap, input pixels times output gradients, summed over all pixels.

    weight'[o, c, t] = sum over pixels p of grad[p, o] · x[p + t, c]

From image to weight, for one chunk of 256 pixels after the other:

- in L2: the chunk's output gradient (half a megabyte for 512 channels), read 32 channels at a time; where these do
  not come out even it is first copied into panels of 32 with zeros;
- in L1: where the chunk's input pixels below one tap begin (a row of zeros for padding), and those 32 channels;
- in registers: 13 input channels x 32 output channels of the result. Every pixel adds one product to each; after
  the chunk they are added to the tile's sums in memory, which also keeps rounding errors small (sums of sums).

Jobs own tiles of the result, so that threads never write to the same sum. Where a layer has few tiles, fixed parts
of the pixels are summed apart and added at the end: which parts depends on shapes, never on threads.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.geometry import Sizes
from tinynet.kernels.indirect import NARROW_INPUT, forward_walk, in_runs
from tinynet.kernels.launch import get_num_threads, inner, jit, launch, prange, threads_for
from tinynet.kernels.layout import pixels, rows
from tinynet.kernels.memory import empty
from tinynet.kernels.packing import Blocks, blocks_of, panel_width
from tinynet.kernels.padding import copy_lines, padded_size, ring
from tinynet.kernels.tile import correlate_narrow_tile, correlate_tile, correlated_rows, lanes

_CHUNK = 256  # pixels
_FEWEST_TILES = 32  # of the result, before pixels are divided into parts


@inner
def _copy_gradient(grad, first, count, first_channel, channels, width, panels):
    """panels [panel][pixel][width] = the gradients of `channels` channels over a chunk, zero in idle lanes."""
    across = (channels + width - 1) // width
    for p in range(count):
        for panel in range(across):
            source, place = grad[first + p, first_channel + panel * width :], (panel * _CHUNK + p) * width
            used = min(width, channels - panel * width)
            for lane in range(used):
                panels[place + lane] = source[lane]
            for lane in range(used, width):
                panels[place + lane] = 0


@inner
def _fill_table(first, count, where, row, column, base, pixel_bytes, mask, zeros, table):
    """The addresses of the input pixels below one tap for `count` output pixels from `first`."""
    size_y, size_x, grid_height, grid_width, step_y, step_x = where[0], where[1], where[2], where[3], where[4], where[5]
    line = first // grid_width
    across = first % grid_width
    n = line // grid_height
    y = line % grid_height
    for p in range(count):
        at_y = y * step_y + row
        at_x = across * step_x + column
        inside = at_y >= 0 and at_y < size_y and at_x >= 0 and at_x < size_x
        line = (n * size_y + at_y) & mask  # all of it without a ring, whose mask is -1
        table[p] = base + (line * size_x + at_x) * pixel_bytes if inside else zeros
        across += 1
        if across == grid_width:
            across = 0
            y += 1
            if y == grid_height:
                y = 0
                n += 1


@jit
def _correlate_compiled(x, grad, where, taps_y, taps_x, ring, zeros, tiles, sums, jobs):
    passes, taps, depth, outs, height, width = tiles[0], tiles[1], tiles[2], tiles[3], tiles[4], tiles[5]
    narrow = tiles[6]
    across = (outs + width - 1) // width
    down = (depth + height - 1) // height
    parts = sums.shape[0]
    flat = sums.reshape(-1)
    all_pixels = grad.shape[0]
    chunks = (all_pixels + _CHUNK - 1) // _CHUNK
    units = passes * taps * down
    itemsize = x.itemsize
    padded = outs % width > 0
    channels = grad.shape[1]
    stride = width if padded else channels
    for job in prange(parts * jobs):
        part = job // jobs
        first_unit, last_unit = units * (job % jobs) // jobs, units * (job % jobs + 1) // jobs
        panels = np.empty(across * _CHUNK * width if padded else 1, x.dtype)
        source = panels if padded else grad.reshape(-1)
        table = np.empty(_CHUNK, np.int64)
        lines = np.zeros(ring[0] * ring[4] * x.shape[3] + height, x.dtype)  # a tile may read behind the last pixel
        origin = np.int64(lines.ctypes.data) if ring[0] > 0 else np.int64(x.ctypes.data)
        ready = 0
        first_chunk, last_chunk = chunks * part // parts, chunks * (part + 1) // parts
        if first_chunk == last_chunk:
            for index in range((part * units + first_unit) * across * height * width,
                               (part * units + last_unit) * across * height * width):  # fmt: skip
                flat[index] = 0
        for chunk in range(first_chunk, last_chunk):
            first = chunk * _CHUNK
            count = min(_CHUNK, all_pixels - first)
            if ring[0] > 0:
                ready = copy_lines(x, first, first + count - 1, where[2], where[3], where[4], where[7], where[8], ring,
                                   ready, lines)  # fmt: skip
            copied, filled = -1, -1
            for unit in range(first_unit, last_unit):
                block = unit // (taps * down)
                if block != copied and padded:
                    copied = block
                    _copy_gradient(grad, first, count, block * outs, outs, width, panels)
                if unit // down != filled:
                    filled = unit // down
                    tap = filled % taps
                    base = origin + block * depth * itemsize
                    _fill_table(first, count, where, taps_y[tap], taps_x[tap], base, where[6] * itemsize, ring[0] - 1,
                                np.int64(zeros.ctypes.data), table)  # fmt: skip
                offset = min(unit % down * height, max(0, depth - height)) * itemsize
                for panel in range(across):
                    place = ((part * units + unit) * across + panel) * height * width
                    start = panel * _CHUNK * width if padded else first * channels + block * outs + panel * width
                    fresh = chunk == first_chunk
                    if narrow:
                        correlate_narrow_tile(table, offset, source, start, stride, count, fresh, flat, place)
                    else:
                        correlate_tile(table, offset, source, start, stride, count, fresh, flat, place)


@jit
def _collect_compiled(sums, tiles, group_outs, group_depth, row_taps, grad_weight):
    """grad_weight (O, C/groups, taps) from the tiles of all parts, in the weight's order."""
    passes, taps, depth, outs, height, width = tiles[0], tiles[1], tiles[2], tiles[3], tiles[4], tiles[5]
    across = (outs + width - 1) // width
    down = (depth + height - 1) // height
    for job in prange(passes * across):
        block, panel = job // across, job % across
        for tile in range(taps * down):
            # The taps of a channel are neighbours in the weight: what one tile leaves of a line, the next completes.
            tap, piece = tile % taps, tile // taps
            first = min(piece * height, max(0, depth - height))
            place = (((block * taps + tap) * down + piece) * across + panel) * height * width
            for part in range(1, sums.shape[0]):
                for index in range(place, place + height * width):
                    sums[0, index] += sums[part, index]
            used = min(width, outs - panel * width)
            if group_depth == depth:
                for lane in range(used):
                    target = grad_weight[block * outs + panel * width + lane]
                    for r in range(min(height, depth - first)):
                        target[first + r, tap] = sums[0, place + r * width + lane]
                continue
            for lane in range(used):
                o = panel * width + lane
                skipped = o // group_outs * group_depth  # of the channels, those of the blocks before o's
                for r in range(min(height, depth - first)):
                    c, t = first + r - skipped, tap
                    if row_taps > 1:
                        c, t = (first + r) % group_depth, tap * row_taps + (first + r) // group_depth
                    if c >= 0 and c < group_depth:
                        grad_weight[block * outs + o, c, t] = sums[0, place + r * width + lane]


class _Plan(NamedTuple):
    blocks: Blocks
    where: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    zeros: np.ndarray
    tiles: np.ndarray
    sums: tuple[int, int]
    run: int
    ring: np.ndarray
    jobs: int
    cost: float


@functools.lru_cache(maxsize=1024)
def _plan(x_shape: tuple[int, ...], grad_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Sizes,
          padding: Sizes, dilation: Sizes, groups: int, dtype: np.dtype, threads: int) -> _Plan:  # fmt: skip
    """What depends on shapes only, and the number of jobs for `threads`."""
    blocks = blocks_of(weight_shape, groups, dtype, transposed=False)
    walk = forward_walk(grad_shape[2:], weight_shape[2:], stride, padding, dilation)
    if groups == 1 and x_shape[1] <= NARROW_INPUT:
        walk = in_runs(walk, x_shape[2:])
    outs, depth = blocks.merged * blocks.outs, blocks.merged * blocks.depth * walk.run
    width, height, taps = panel_width(outs, dtype), correlated_rows(), len(walk.rows)
    # Where a pixel has fewer channels than a tile, the last one's tile reads on: behind a ring it may.
    border = (0, 0, 0, 0) if walk.border is None and depth < height else walk.border
    units = groups // blocks.merged * taps * -(-depth // height)
    across = -(-outs // width)
    all_pixels = grad_shape[0] * grad_shape[2] * grad_shape[3]
    parts = max(1, min(-(-_FEWEST_TILES // (units * across)), -(-all_pixels // _CHUNK)))
    parts = 1 << (parts - 1).bit_length()  # so that 2, 4 or 8 threads get as much each
    cost = 0.011 * all_pixels * units * across * height * width
    jobs = min(units, -(-threads_for(cost) // parts))
    where = (*padded_size(x_shape[2:], border), *grad_shape[2:], *stride, x_shape[1],
             int(walk.rows.min()), int(walk.rows.max()))  # fmt: skip
    return _Plan(
        blocks,
        np.array(where, np.int64),
        np.ascontiguousarray(walk.rows, np.int64),
        np.ascontiguousarray(walk.columns, np.int64),
        np.zeros(depth + height, dtype),
        np.array((groups // blocks.merged, taps, depth, outs, height, width, width == lanes(dtype)), np.int64),
        (parts, units * across * height * width),
        walk.run,
        ring(border, x_shape[2:], grad_shape[2:], stride, walk.rows, grad_shape[0], _CHUNK),
        jobs,
        cost,
    )


def weight_gradient(grad: np.ndarray, x: np.ndarray, weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes,
                    dilation: Sizes, groups: int) -> np.ndarray:  # fmt: skip
    """Gradient (O, C/groups, kh, kw) of a convolution's weight, for non-empty arrays."""
    weight_shape = tuple(weight_shape)
    plan = _plan(x.shape, grad.shape, weight_shape, tuple(stride), tuple(padding), tuple(dilation), groups, x.dtype,
                 get_num_threads())  # fmt: skip
    sums = empty(plan.sums, x.dtype)
    launch(_correlate_compiled, pixels(x), rows(grad), plan.where, plan.rows, plan.columns, plan.ring, plan.zeros,
           plan.tiles, sums, plan.jobs, cost=plan.cost)  # fmt: skip
    grad_weight = empty(weight_shape, x.dtype)
    taps = grad_weight.reshape(*weight_shape[:2], weight_shape[2] * weight_shape[3])
    blocks = plan.blocks
    launch(_collect_compiled, sums, plan.tiles, blocks.outs, blocks.depth, plan.run, taps,
           cost=grad_weight.size * len(sums))  # fmt: skip
    return grad_weight
