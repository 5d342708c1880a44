"""The weight gradient of a 3 x 3 convolution by Winograd's algorithm: 16 multiplications instead of 36, as forward.

What winograd.py computes is linear in the weights, so their gradient is the transpose of it: Gᵀ [Σ (Bᵀ d B) ⊙
(A y Aᵀ)] G, summed over all tiles, where d are 4 x 4 pixels of the input and y 2 x 2 of the output's gradient. From
image to weight, for one chunk of tiles after the other:

- first both are transformed, [place][tile][channel]; a chunk is as large as leaves a place of both in L2. A row is a
  line of cache longer than its channels: rows of 2 KB would all meet in two sets of L1;
- then place after place is a product over the tiles, by the register tile of all weight gradients (tile.py): 13
  input x 32 output channels in registers, 256 rows of both in L1; the sums of a place stay in L2;
- at the end 16 sums become 9 in registers, for 13 channels at a time in L1, and go to the weight's order in squares.

Jobs own tiles of the result. Where anything is not finite the definition does it all (correlation.py).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels import winograd
from tinynet.kernels.geometry import Sizes
from tinynet.kernels.launch import get_num_threads, jit, launch, prange
from tinynet.kernels.layout import pixels
from tinynet.kernels.memory import empty
from tinynet.kernels.packing import panel_width
from tinynet.kernels.tile import correlate_tile, correlated_rows, lanes, transpose_tile
from tinynet.kernels.winograd import find_tile, is_finite
from tinynet.kernels.winograd_tile import PLACES, gradient_tile, input_tile, weight_gradient_tile

_PLACE_BYTES = 800_000  # of both transformed images, for one place of a chunk
_CHUNK = 256  # tiles that meet a register tile at a time
_FEWEST_CHANNELS = 128


def wins(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes, dilation: Sizes,
         groups: int, dtype: np.dtype) -> bool:  # fmt: skip
    """Whether a weight gradient of these shapes is done here."""
    if min(weight_shape[:2]) < _FEWEST_CHANNELS or weight_shape[0] % panel_width(weight_shape[0], dtype):
        return False
    return winograd.wins(x_shape, weight_shape, stride, padding, dilation, groups, dtype)


@jit
def _transform_compiled(x, grad, where, first, count, zeros, x_row, grad_row, room, finite):
    """room = [place][tile][x_row] and [place][tile][grad_row] of `count` tiles from `first`."""
    depth, outs = x.shape[3], grad.shape[3]
    lane = x_row - depth
    right = PLACES * count * x_row
    for job in prange((count + 15) // 16):
        addresses, places = np.empty(PLACES, np.int64), np.empty(4, np.int64)
        check, good = np.empty(lane, x.dtype), True
        nothing = np.int64(zeros.ctypes.data)
        for tile in range(job * 16, min(count, job * 16 + 16)):
            find_tile(first + tile, where, nothing, np.int64(x.ctypes.data), depth * x.itemsize, addresses, places, 0)
            input_tile(addresses, depth, room, tile * x_row, count * x_row, check)
            good = good and is_finite(check)
            for q in range(4):
                inside = places[q] >= 0
                addresses[q] = np.int64(grad.ctypes.data) + places[q] * x.itemsize if inside else nothing
            gradient_tile(addresses, outs, room, right + tile * grad_row, count * grad_row, check)
            good = good and is_finite(check)
        finite[first // 16 + job] = good


@jit
def _multiply_compiled(room, count, depth, outs, x_row, grad_row, height, width, fresh, jobs, sums):
    """sums [place][panel of depth][panel of outs][height][width] += products over `count` tiles, or = if `fresh`."""
    down, across = (depth + height - 1) // height, outs // width
    itemsize = room.itemsize
    units = PLACES * down
    for job in prange(jobs):
        table = np.empty(_CHUNK, np.int64)
        first_unit, last_unit = units * job // jobs, units * (job + 1) // jobs
        start = np.int64(room.ctypes.data)
        for place in range(first_unit // down, (last_unit + down - 1) // down):
            for first in range(0, count, _CHUNK):
                size = min(_CHUNK, count - first)
                for t in range(size):
                    table[t] = start + (place * count + first + t) * x_row * itemsize
                right = (PLACES * x_row + place * grad_row) * count + first * grad_row
                for unit in range(max(first_unit, place * down), min(last_unit, (place + 1) * down)):
                    offset = min(unit % down * height, depth - height) * itemsize
                    for panel in range(across):
                        correlate_tile(table, offset, room, right + panel * width, grad_row, size, fresh and first == 0,
                                       sums, (unit * across + panel) * height * width)  # fmt: skip


@jit
def _collect_compiled(sums, depth, height, width, lane, rows, grad_weight):
    """grad_weight (O, C·9) from the sums of the 16 places."""
    outs = len(grad_weight)
    flat = grad_weight.reshape(-1)
    down, across = (depth + height - 1) // height, outs // width
    plane = down * across * height * width
    for job in prange(across):
        taps = np.empty(height * 9 * width, sums.dtype)
        for piece in range(down):
            first = min(piece * height, depth - height)
            weight_gradient_tile(sums, (piece * across + job) * height * width, plane, width, height, taps)
            begin = job * width * depth * 9 + first * 9
            whole = height * 9 // lane * lane
            for k in range(0, whole, lane):
                for low in range(0, width, lane):
                    transpose_tile(taps, k * width + low, width, rows, low, flat, begin + k)
            for out in range(width):
                for k in range(whole, height * 9):
                    flat[begin + rows[out] + k] = taps[k * width + out]


class _Plan(NamedTuple):
    where: np.ndarray
    zeros: np.ndarray
    rows: np.ndarray
    tiles: int
    chunk: int
    height: int
    width: int
    sums: int
    cost: float  # of the products


@functools.lru_cache(maxsize=1024)
def _plan(x_shape: tuple[int, ...], grad_shape: tuple[int, ...], padding: Sizes, dtype: np.dtype) -> _Plan:
    batch, depth = x_shape[:2]
    outs, output = grad_shape[1], grad_shape[2:]
    tiles = batch * -(-output[0] // 2) * -(-output[1] // 2)
    where = winograd.where_of(x_shape, grad_shape, padding)
    height, width = correlated_rows(), panel_width(outs, dtype)
    most = max(16, _PLACE_BYTES // ((depth + outs) * dtype.itemsize) // 16 * 16)
    chunk = -(-tiles // -(-tiles // most))
    chunk = -(-chunk // 16) * 16
    count = PLACES * -(-depth // height) * height * outs
    cost = 0.011 * tiles * count
    return _Plan(where, np.zeros(max(depth, outs), dtype), np.arange(width) * depth * 9, tiles, chunk, height, width,
                 count, cost)  # fmt: skip


def weight_gradient(grad: np.ndarray, x: np.ndarray, padding: Sizes) -> np.ndarray | None:
    """Gradient (O, C, 3, 3) of a convolution's weight; None where x or grad are not finite."""
    depth, outs = x.shape[1], grad.shape[1]
    plan = _plan(x.shape, grad.shape, tuple(padding), x.dtype)
    lane = lanes(x.dtype)
    x_row, grad_row = depth + lane, outs + lane
    image, gradient = pixels(x), pixels(grad)
    sums, finite = empty((plan.sums,), x.dtype), np.empty(-(-plan.tiles // 16), np.bool_)
    room = empty((PLACES * min(plan.chunk, plan.tiles) * (x_row + grad_row),), x.dtype)
    jobs = get_num_threads()
    for first in range(0, plan.tiles, plan.chunk):
        count = min(plan.chunk, plan.tiles - first)
        launch(_transform_compiled, image, gradient, plan.where, first, count, plan.zeros, x_row, grad_row, room,
               finite, cost=0.1 * PLACES * count * (depth + outs))  # fmt: skip
        launch(_multiply_compiled, room, count, depth, outs, x_row, grad_row, plan.height, plan.width, first == 0,
               jobs, sums, cost=plan.cost)  # fmt: skip
    if not finite.all():
        return None
    grad_weight = empty((outs, depth, 3, 3), x.dtype)
    launch(_collect_compiled, sums, depth, plan.height, plan.width, lane, plan.rows, grad_weight.reshape(outs, -1),
           cost=2.0 * grad_weight.size)  # fmt: skip
    return grad_weight
