"""Convolution with 3 x 3 windows by Winograd's F(2 x 2, 3 x 3): 16 multiplications where the definition makes 36.

After Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.1: 2 x 2 pixels of the
output come from 4 x 4 pixels d of the input and the 3 x 3 weights g as Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, a multiplication
for each of 16 places. Over all tiles, input and output channels, each place is a matrix product of its own, and the
transformations are additions of whole vectors of channels (winograd_tile.py). From image to output:

- once per call or model: the weights become G g Gᵀ, in panels [place][input channel][32 output channels];
- per job (a run of tiles x a run of panels, one job per thread): some tiles are transformed, Bᵀ d B, 128 KB in L2;
- per panel: 14 tiles at a time meet the register tile of all convolutions (tile.py), place after place; the 16
  products of a tile for 32 channels (L1, L2) become 2 x 2 pixels, get bias, residual and ReLU in registers and are
  written once.

Where the image has fewer tiles than there are output channels, its weights are the larger part. Then a job takes
all of its tiles at once (they stream from L3), and transforms a panel into L2 just before it is used.

The rounding error stays within twice that of the definition. But the definition keeps a NaN or an infinite number to
its own 3 x 3 pixels, and here it would reach whole tiles: such tiles are left to the definition (indirect.py).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels import indirect
from tinynet.kernels.geometry import Sizes, convolution_output_size
from tinynet.kernels.launch import get_num_threads, inner, jit, launch, prange, readable, threads_for
from tinynet.kernels.layout import channels_last_empty, pixels
from tinynet.kernels.memory import empty
from tinynet.kernels.packing import blocks_of, pack_panel, panel_rows, panel_width
from tinynet.kernels.tile import lanes, multiply_half_tile, multiply_narrow_tile, multiply_tile, tile_rows
from tinynet.kernels.winograd_tile import PLACES, input_tile, output_tile, weight_tile

_BLOCK_BYTES = 1 << 17  # of transformed input at a time
_FEWEST_TILES = 64  # for which transforming the weights pays
_FULLEST = 0.75  # the least part of the tiles' pixels that must lie inside of the image


def wins(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes, dilation: Sizes,
         groups: int, dtype: np.dtype) -> bool:  # fmt: skip
    """Whether a convolution of these shapes is done here. It depends on nothing else, so that bits do not either."""
    once = tuple(stride) == tuple(dilation) == (1, 1) and groups == 1 and min(padding) >= 0 and max(padding) <= 2
    if tuple(weight_shape[2:]) != (3, 3) or not once or np.dtype(dtype) != np.float32:
        return False
    if any(channels % lanes(dtype) for channels in weight_shape[:2]):
        return False
    height, width = convolution_output_size(x_shape[2:], (3, 3), stride, padding, dilation)
    tiles = -(-height // 2) * -(-width // 2)
    return x_shape[0] * tiles >= _FEWEST_TILES and height * width >= _FULLEST * 4 * tiles


# --- weights -------------------------------------------------------------------------------------------------


class _Order(NamedTuple):
    """How the weights are read, forward or for the input gradient: with channels exchanged, the kernel turned."""

    blocks: np.ndarray
    taps: np.ndarray
    rows: np.ndarray
    width: int


@functools.lru_cache(maxsize=1024)
def _order(weight_shape: tuple[int, ...], transposed: bool, dtype: np.dtype) -> _Order:
    blocks = blocks_of(weight_shape, 1, dtype, transposed)
    taps = np.arange(9)[::-1].copy() if transposed else np.arange(9)
    width = panel_width(blocks.outs, dtype)
    return _Order(np.array(blocks, np.int64), taps, panel_rows(blocks, taps, width, lanes(dtype)), width)


@inner
def is_finite(check):
    total = np.float32(0)
    for value in check:
        total += value
    return total == 0


@inner
def _transform_panel(weight, blocks, taps, rows, panel, width, packed, panels, place, check):
    """panels[place:] = G g Gᵀ for a panel of output channels, by way of `packed`; returns if all are finite."""
    pack_panel(weight, 0, blocks, taps, panel * width, width, len(check), rows, packed, 0)
    weight_tile(packed, blocks[3] * width, panels, place, check)
    return is_finite(check)


@jit
def _transform_weights_compiled(weight, blocks, taps, rows, width, lane, panels, finite):
    panel_size = PLACES * blocks[3] * width
    for panel in prange(len(finite)):
        packed, check = np.empty(9 * blocks[3] * width, weight.dtype), np.empty(lane, weight.dtype)
        finite[panel] = _transform_panel(weight, blocks, taps, rows, panel, width, packed, panels, panel * panel_size,
                                         check)  # fmt: skip


def transformed(weight: np.ndarray, transposed: bool = False) -> np.ndarray | None:
    """G g Gᵀ of a weight (O, C, 3, 3) in panels, None if it is not finite; `transposed` for the input gradient."""
    order = _order(weight.shape, transposed, weight.dtype)
    outs, depth = weight.shape[:2] if not transposed else (weight.shape[1], weight.shape[0])
    count = -(-outs // order.width)
    panels = empty((count * PLACES * depth * order.width,), weight.dtype)
    finite = np.empty(count, np.bool_)
    launch(_transform_weights_compiled, readable(weight).reshape(-1), order.blocks, order.taps, order.rows, order.width,
           lanes(weight.dtype), panels, finite, cost=0.5 * panels.size)  # fmt: skip
    return panels if finite.all() else None


# --- the products --------------------------------------------------------------------------------------------


@inner
def find_tile(number, where, zeros, base, pixel_bytes, addresses, places, first):
    """Where the 16 input pixels of tile `number` lie, and where its 4 output pixels go; -1 is nowhere."""
    height, width, above, left = where[0], where[1], where[2], where[3]
    down, across, out_height, out_width, channels = where[4], where[5], where[6], where[7], where[8]
    x = number % across
    line = number // across
    y = line % down
    n = line // down
    top, start = 2 * y - above, 2 * x - left
    origin = base + ((n * height + top) * width + start) * pixel_bytes
    exists = n < where[9]
    for i in range(4):
        inside = exists and top + i >= 0 and top + i < height
        for j in range(4):
            within = inside and start + j >= 0 and start + j < width
            addresses[4 * i + j] = origin + (i * width + j) * pixel_bytes if within else zeros
    for i in range(2):
        for j in range(2):
            within = exists and 2 * y + i < out_height and 2 * x + j < out_width
            place = ((n * out_height + 2 * y + i) * out_width + 2 * x + j) * channels
            places[first + 2 * i + j] = place if within else -1


@inner
def _transform_tiles(x, first, count, where, zeros, inputs, plane, check, places, finite):
    """`inputs` (place, tile, channel) of tiles from `first`, and where their pixels go: nowhere if not finite."""
    depth = x.shape[3]
    addresses = np.empty(PLACES, np.int64)
    for r in range(count):
        find_tile(first + r, where, np.int64(zeros.ctypes.data), np.int64(x.ctypes.data), depth * x.itemsize,
                  addresses, places, 4 * r)  # fmt: skip
        input_tile(addresses, depth, inputs, r * depth, plane, check)
        if first + r < len(finite):
            finite[first + r] = is_finite(check)
            if not finite[first + r]:
                places[4 * r : 4 * r + 4] = -1


@inner
def _multiply(inputs, plane, depth, groups, left, weights, begin, width, shape, zeros, sums, rows, table, products,
              product_plane):  # fmt: skip
    """products (place, tile, output channel) of a panel of weights, for `groups` register tiles; `left` rows count."""
    tile, half, pieces, flush = shape[0], shape[1], shape[2], shape[3]
    piece = depth // pieces
    start, itemsize = np.int64(inputs.ctypes.data), inputs.itemsize
    for p in range(PLACES):
        place = begin + p * depth * width
        for group in range(groups):
            for part in range(pieces):
                for r in range(tile):
                    number = p * plane + (group * tile + r) * depth + part * piece
                    table[part * tile + r] = start + number * itemsize
            target = products[p * product_plane + group * tile * width :]
            if half == tile:
                multiply_narrow_tile(table, pieces, piece, flush, weights, place, sums, rows, tile, width,
                                     zeros, zeros, False, False, target)  # fmt: skip
            elif left - group * tile <= half and pieces == 1:
                multiply_half_tile(table, pieces, piece, flush, weights, place, sums, rows, half, width,
                                   zeros, zeros, False, False, target)  # fmt: skip
            else:
                multiply_tile(table, pieces, piece, flush, weights, place, sums, rows, tile, width,
                              zeros, zeros, False, False, target)  # fmt: skip


@jit
def _winograd_compiled(x, weight, blocks, taps, lane_starts, panels, where, zeros, bias, residual, relu, result, split,
                       shape, room, finite, panels_finite):  # fmt: skip
    width, lane, block, pixel_parts, panel_parts = split[0], split[1], split[2], split[3], split[4]
    tile, pieces = shape[0], shape[2]
    depth, outs = x.shape[3], where[8]
    tiles, all_panels = len(finite), len(panels_finite)
    groups = (tiles + tile - 1) // tile
    plane, product_plane = block * tile * depth, block * tile * width
    joined, packed_before = len(residual) > 0, len(panels) > 0
    for job in prange(pixel_parts * panel_parts):
        first_panel = all_panels * (job % panel_parts) // panel_parts
        last_panel = all_panels * (job % panel_parts + 1) // panel_parts
        first_group = groups * (job // panel_parts) // pixel_parts
        last_group = groups * (job // panel_parts + 1) // pixel_parts
        inputs, products = room[job, : PLACES * plane], room[job, PLACES * plane :]
        packed = np.empty(1 if packed_before else 9 * depth * width, x.dtype)
        own = np.empty(1 if packed_before else PLACES * depth * width, x.dtype)
        sums, check, rows = np.empty(tile * width, x.dtype), np.empty(lane, x.dtype), np.arange(tile) * width
        table, places = np.empty(pieces * tile, np.int64), np.empty(4 * block * tile, np.int64)
        for first in range(first_group, last_group, block):
            count, left = min(block, last_group - first), tiles - first * tile
            _transform_tiles(x, first * tile, count * tile, where, zeros, inputs, plane, check, places, finite)
            for panel in range(first_panel, last_panel):
                begin = panel * PLACES * depth * width if packed_before else 0
                if not packed_before:
                    panels_finite[panel] = _transform_panel(weight, blocks, taps, lane_starts, panel, width, packed,
                                                            own, 0, check)  # fmt: skip
                if not panels_finite[panel]:
                    continue
                _multiply(inputs, plane, depth, count, left, panels if packed_before else own, begin, width, shape,
                          zeros, sums, rows, table, products, product_plane)  # fmt: skip
                used = min(width, outs - panel * width)
                shift, target = bias[panel * width :], result[panel * width :]
                rest = residual[panel * width :] if joined else residual
                for r in range(min(count * tile, left)):
                    output_tile(products, r * width, product_plane, used, places, 4 * r, shift, rest, joined, relu,
                                target)  # fmt: skip


# --- plans ---------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """Everything that depends on shapes only."""

    tiles: Sizes  # down and across an image
    where: np.ndarray
    zeros: np.ndarray
    split: np.ndarray
    shape: np.ndarray  # of register tiles: rows, rows of half of one, pieces of a row, pieces to a sum
    room: tuple[int, int]  # jobs, numbers of each
    few_tiles: bool  # fewer than output channels
    cost: float


def where_of(x_shape: tuple[int, ...], out_shape: tuple[int, ...], padding: Sizes) -> np.ndarray:
    """What `find_tile` has to know."""
    down, across = -(-out_shape[2] // 2), -(-out_shape[3] // 2)
    return np.array((*x_shape[2:], *padding, down, across, *out_shape[2:], out_shape[1], x_shape[0]), np.int64)


@functools.lru_cache(maxsize=1024)
def _plan(x_shape: tuple[int, ...], out_shape: tuple[int, ...], padding: Sizes, dtype: np.dtype,
          threads: int) -> Plan:  # fmt: skip
    batch, depth = x_shape[:2]
    outs, output = out_shape[1], out_shape[2:]
    down, across = -(-output[0] // 2), -(-output[1] // 2)
    tile, width = tile_rows(), panel_width(outs, dtype)
    groups, panels = -(-batch * down * across // tile), -(-outs // width)
    few_tiles = batch * down * across < outs
    tile_time = indirect.NANOSECONDS_PER_PRODUCT * PLACES * tile * depth * width
    input_time = indirect.NANOSECONDS_PER_NUMBER * groups * tile * PLACES * depth / 2
    weight_time = indirect.NANOSECONDS_PER_WEIGHT * PLACES * depth * outs if few_tiles else 0.0
    cost = groups * panels * tile_time + input_time + weight_time
    parts = indirect.divide(groups, panels, tile_time, input_time, weight_time, threads_for(cost))
    own = -(-groups // parts[0])
    most = own if few_tiles else max(1, _BLOCK_BYTES // (PLACES * tile * depth * dtype.itemsize))
    block = -(-own // -(-own // most))
    half = tile if width == lanes(dtype) else tile // 2
    split, shape = (width, lanes(dtype), block, *parts), (tile, half, *indirect.pieces_of(depth))
    room = parts[0] * parts[1], PLACES * block * tile * (depth + width)
    return Plan((down, across), where_of(x_shape, out_shape, padding), np.zeros(max(depth, width), dtype),
                np.array(split, np.int64), np.array(shape, np.int64), room, few_tiles, cost)  # fmt: skip


def convolve(x: np.ndarray, weight: np.ndarray, panels: np.ndarray | None, bias: np.ndarray | None, padding: Sizes,
             out: np.ndarray, residual: np.ndarray | None = None, relu: bool = False,
             transposed: bool = False) -> None:  # fmt: skip
    """out = relu(convolution(x, weight) + bias + residual), channels last; `panels` are the `transformed` weight.

    `out` may be the memory of `residual`. No array is empty.
    """
    plan = _plan(x.shape, out.shape, tuple(padding), x.dtype, get_num_threads())
    order = _order(weight.shape, transposed, x.dtype)
    if panels is None and not plan.few_tiles:
        panels = transformed(weight, transposed)
    finite = np.empty(len(x) * plan.tiles[0] * plan.tiles[1], np.bool_)
    panels_finite = np.ones(-(-out.shape[1] // order.width), np.bool_)
    nothing = np.empty(0, x.dtype)
    room = empty(plan.room, x.dtype)
    if panels is None and not plan.few_tiles:
        finite[:] = False
    else:
        launch(
            _winograd_compiled,
            pixels(x),
            nothing if panels is not None else readable(weight).reshape(-1),
            order.blocks,
            order.taps,
            order.rows,
            nothing if panels is None else panels,
            plan.where,
            plan.zeros,
            np.zeros(out.shape[1], x.dtype) if bias is None else readable(bias),
            nothing if residual is None else pixels(residual).reshape(-1),
            relu,
            out.transpose(0, 2, 3, 1).reshape(-1),
            plan.split,
            plan.shape,
            room,
            finite,
            panels_finite,
            cost=plan.cost,
        )
    if not (finite.all() and panels_finite.all()):
        left = ~finite.reshape(len(x), *plan.tiles), ~np.repeat(panels_finite, order.width)[: out.shape[1]]
        _finish_by_definition(x, weight, bias, padding, out, residual, relu, transposed, *left)


def _finish_by_definition(x, weight, bias, padding, out, residual, relu, transposed, tiles, channels):
    """The pixels of `tiles` (N, down, across) and the whole of `channels` (O,) that were left out, one by one."""
    y = channels_last_empty(out.shape, x.dtype)
    if transposed:
        indirect.input_gradient(x, weight, y, (1, 1), tuple(2 - p for p in padding), (1, 1), 1)
    else:
        indirect.convolve(x, weight, None, bias, (1, 1), tuple(padding), (1, 1), 1, y)
    if residual is not None:
        y += residual
    if relu:
        np.maximum(y, 0, out=y)
    left = tiles.repeat(2, 1).repeat(2, 2)[:, None, : out.shape[2], : out.shape[3]] | channels[:, None, None]
    np.copyto(out, y, where=left)
