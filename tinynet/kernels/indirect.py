"""Convolution without im2col: the tile reads its windows where they are, through a table of addresses.

After Dukhan 2019, "The Indirect Convolution Algorithm". The matrix of columns is never written; what is written
is where its rows begin: for every tap and each of the tile's pixels the address of the input pixel below the tap,
or of one row of zeros where that is padding. From image to output:

- once per call or model: the weights are packed into panels, [tap][input channel][32 output channels];
- per job (a run of pixels x a run of panels, one job per thread): panels that fill half of L2 are kept there;
- per tile of 14 pixels: the table is filled (L1), then every panel of the group passes by, the input rows staying
  in L1; the 14 x 32 sums are finished in registers, get bias, residual and ReLU while still in L1, and are
  written once.

The input gradient is the same walk with the roles of the channels exchanged: a pixel of the input gathers from
those output pixels that it had an influence on. With stride s these are the same taps for every s-th pixel, so
the pixels fall into s x s phases, and no phase multiplies with zeros that the stride has put between pixels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.geometry import Sizes, convolution_output_size
from tinynet.kernels.launch import get_num_threads, inner, jit, launch, prange, readable, threads_for
from tinynet.kernels.layout import pixels
from tinynet.kernels.packing import Blocks, blocks_of, pack_panel, pack_rows, panel_rows, panel_width
from tinynet.kernels.padding import Border, copy_lines, padded_size, ring
from tinynet.kernels.tile import (
    VECTORS,
    copy_tile,
    lanes,
    multiply_half_tile,
    multiply_narrow_tile,
    multiply_tile,
    tile_rows,
    vector_bytes,
)

_GROUP_BYTES = 1 << 18  # panels that stay in L2 while pixels pass by
_LONGEST_SUM = 512  # products that are added up in a register before the sum goes to memory
NARROW_INPUT = 16  # up to so many channels a row of the kernel is read in one piece, from padded lines


class Walk(NamedTuple):
    """Which input pixel each tap reads for each pixel of a grid, and where that pixel's result goes.

    Pixel (y, x) of the grid (height, width) reads input pixel (y·step_y + rows[t], x·step_x + columns[t]) for
    tap t and becomes pixel (y·spread_y + start_y, x·spread_x + start_x) of the result. With a `border` the input is
    to be padded with it, and each read is one of `len(taps) / len(rows)` pixels side by side.
    """

    height: int
    width: int
    step: Sizes
    rows: np.ndarray
    columns: np.ndarray
    taps: np.ndarray  # which taps of the kernel these are
    spread: Sizes
    start: Sizes
    border: Border | None = None

    @property
    def run(self) -> int:
        """Taps that are read at a time."""
        return len(self.taps) // max(1, len(self.rows))


def forward_walk(output: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Walk:
    """A convolution: every pixel of the output reads its window."""
    i, j = np.divmod(np.arange(kernel[0] * kernel[1]), kernel[1])
    rows, columns = i * dilation[0] - padding[0], j * dilation[1] - padding[1]
    return Walk(output[0], output[1], stride, rows, columns, i * kernel[1] + j, (1, 1), (0, 0))


def gradient_walks(size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> list[Walk]:
    """An input gradient, by phases: pixel y gathers from output (y + padding - i·dilation) / stride, where whole."""
    walks = []
    i, j = np.divmod(np.arange(kernel[0] * kernel[1]), kernel[1])
    for phase_y in range(min(stride[0], size[0])):
        for phase_x in range(min(stride[1], size[1])):
            down = phase_y + padding[0] - i * dilation[0]
            across = phase_x + padding[1] - j * dilation[1]
            taps = np.flatnonzero((down % stride[0] == 0) & (across % stride[1] == 0))
            height = -(-(size[0] - phase_y) // stride[0])
            width = -(-(size[1] - phase_x) // stride[1])
            walks.append(Walk(height, width, (1, 1), down[taps] // stride[0], across[taps] // stride[1], taps,
                              stride, (phase_y, phase_x)))  # fmt: skip
    return walks


def in_runs(walk: Walk, size: Sizes) -> Walk:
    """The same walk over an image of `size` with the taps of a kernel's row read in one piece, where they can be.

    With few channels a tap is so short that finding its pixels takes longer than multiplying them.
    """
    order = np.lexsort((walk.columns, walk.rows))
    rows, columns, taps = walk.rows[order], walk.columns[order], walk.taps[order]
    lines = len(np.unique(rows))
    if not lines or len(taps) % lines or len(taps) == lines:
        return walk
    rows, columns = rows.reshape(lines, -1), columns.reshape(lines, -1)
    if (rows != rows[:, :1]).any() or (np.diff(columns) != 1).any() or (columns != columns[0]).any():
        return walk
    reach_y = (walk.height - 1) * walk.step[0] + int(rows.max()) + 1
    reach_x = (walk.width - 1) * walk.step[1] + int(columns.max()) + 1
    above, left = max(0, -int(rows.min())), max(0, -int(columns.min()))
    border = (above, max(0, reach_y - size[0]), left, max(0, reach_x - size[1]))
    return walk._replace(rows=rows[:, 0] + above, columns=columns[:, 0] + left, taps=taps, border=border)


# --- the walk ----------------------------------------------------------------------------------------------


@inner
def _fill_table(first, count, tile, where, rows, columns, steps, pieces, piece_bytes, base, pixel_bytes, mask, zeros,
                table, places):  # fmt: skip
    """Addresses (taps, pieces, tile) of the input of `count` pixels from `first`, and where their results begin.

    `steps` holds for every tap how many bytes behind the window's origin its pixel lies. With a `mask` (not -1) the
    input is a ring of padded lines, see padding.py.
    """
    height, width, grid_height, grid_width = where[0], where[1], where[2], where[3]
    step_y, step_x, spread_y, spread_x, start_y, start_x = where[4], where[5], where[6], where[7], where[8], where[9]
    result_height, result_width, channels = where[10], where[11], where[12]
    first_row, last_row, first_column, last_column = where[13], where[14], where[15], where[16]
    taps = len(rows)
    x = first % grid_width
    line = first // grid_width
    y = line % grid_height
    n = line // grid_height
    for r in range(count):
        places[r] = channels * ((n * result_height + y * spread_y + start_y) * result_width + x * spread_x + start_x)
        origin_y, origin_x = y * step_y, x * step_x
        origin = base + ((n * height + origin_y) * width + origin_x) * pixel_bytes
        within = origin_y + first_row >= 0 and origin_y + last_row < height
        if mask >= 0:
            for t in range(taps):
                line = (n * height + origin_y + rows[t]) & mask
                address = base + (line * width + origin_x + columns[t]) * pixel_bytes
                for piece in range(pieces):
                    table[(t * pieces + piece) * tile + r] = address + piece * piece_bytes
        elif within and origin_x + first_column >= 0 and origin_x + last_column < width:
            if pieces == 1:
                for t in range(taps):
                    table[t * tile + r] = origin + steps[t]
            else:
                for t in range(taps * pieces):
                    table[t * tile + r] = origin + steps[t // pieces] + t % pieces * piece_bytes
        else:
            for t in range(taps):
                at_y, at_x = origin_y + rows[t], origin_x + columns[t]
                inside = at_y >= 0 and at_y < height and at_x >= 0 and at_x < width
                address = origin + steps[t] if inside else zeros
                for piece in range(pieces):
                    table[(t * pieces + piece) * tile + r] = address + piece * piece_bytes
        x += 1
        if x == grid_width:
            x = 0
            y += 1
            if y == grid_height:
                y = 0
                n += 1
    for r in range(count, tile):  # rows without a pixel multiply zeros
        for t in range(taps * pieces):
            table[t * tile + r] = zeros


@inner
def _gather_rows(x, first, count, height, pixel, piece, pieces, itemsize, rows, table):
    """Copies the `count` pixels from `first` to `rows`, a line of cache farther apart than in x, and finds them there.

    Pixels of 4 kB or a multiple would all begin in one set of L1, which holds fewer lines than a tile has rows.
    """
    distance = pixel + 64 // itemsize
    base = np.int64(rows.ctypes.data)
    for r in range(count):
        for k in range(0, pixel, VECTORS * 64 // itemsize):
            copy_tile(x, (first + r) * pixel + k, rows, r * distance + k)
        for part in range(pieces):
            table[part * height + r] = base + (r * distance + part * piece) * itemsize


@inner
def _finish_partly(sums, count, used, width, places, bias, residual, relu, result):
    """The tile's epilogue for a panel with idle lanes: result = relu(sums + bias + residual)."""
    for r in range(count):
        for lane in range(used):
            value = sums[r * width + lane] + bias[lane]
            if len(residual) > 0:
                value += residual[places[r] + lane]
            result[places[r] + lane] = 0 if relu and value < 0 else value


@jit
def _walk_compiled(x, weight, taps, blocks, lane_starts, panels, where, rows, columns, steps, ring, zeros, bias,
                   residual, relu, result, split):  # fmt: skip
    groups, merged, outs, depth = blocks[0], blocks[1], blocks[2], blocks[3]
    width, size, tile, half = split[0], split[1], split[2], split[3]
    group, resident, pixel_parts, panel_parts = split[4], split[5], split[6], split[7]
    pieces, flush = split[8], split[9]
    count_taps = len(rows)
    piece = merged * depth * (len(taps) // max(1, count_taps)) // pieces
    rounds = count_taps * pieces
    panel_size = len(taps) * merged * depth * width
    across = (merged * outs + width - 1) // width
    all_panels = groups // merged * across
    itemsize = x.itemsize
    joined = len(residual) > 0
    crowded, flat = split[10] > 0, x.reshape(-1)
    all_pixels = x.shape[0] * where[2] * where[3]
    all_tiles = (all_pixels + tile - 1) // tile
    pixel_bytes = x.shape[3] * itemsize
    for job in prange(pixel_parts * panel_parts):
        sums = np.empty(tile * width, x.dtype)
        table = np.empty(rounds * tile, np.int64)
        places = np.empty(tile, np.int64)
        own = np.empty(1 if len(panels) > 0 else group * panel_size, x.dtype)
        packed = panels if len(panels) > 0 else own
        gathered = np.empty(tile * (x.shape[3] + 64 // itemsize) if crowded else 1, x.dtype)
        lines = np.empty(ring[0] * ring[4] * x.shape[3], x.dtype)
        first_panel = all_panels * (job % panel_parts) // panel_parts
        last_panel = all_panels * (job % panel_parts + 1) // panel_parts
        first_tile = all_tiles * (job // panel_parts) // pixel_parts
        last_tile = all_tiles * (job // panel_parts + 1) // pixel_parts
        while first_panel < last_panel:
            block = first_panel // across
            stop = min(last_panel, first_panel + group, (block + 1) * across)
            if len(panels) == 0 and merged == 1 and blocks[4] == 1:
                pack_rows(weight, block, blocks, first_panel % across * width, stop - first_panel, width, size,
                          panel_size, own)  # fmt: skip
            elif len(panels) == 0:
                for panel in range(first_panel, stop):
                    pack_panel(weight, block * merged, blocks, taps, panel % across * width, width, size, lane_starts,
                               own, (panel - first_panel) * panel_size)  # fmt: skip
            origin = 0 if len(panels) == 0 else first_panel * panel_size
            start_address = np.int64(lines.ctypes.data) if ring[0] > 0 else np.int64(x.ctypes.data)
            base = start_address + block * merged * depth * itemsize
            for low in range(first_panel, stop, resident):
                high = min(stop, low + resident)
                copied = 0
                for index in range(first_tile, last_tile):
                    first = index * tile
                    count = min(tile, all_pixels - first)
                    height = half if count <= half else tile
                    if ring[0] > 0:
                        copied = copy_lines(x, first, first + count - 1, where[2], where[3], where[4], where[13],
                                            where[14], ring, copied, lines)  # fmt: skip
                    _fill_table(first, count, height, where, rows, columns, steps, pieces, piece * itemsize, base,
                                pixel_bytes, ring[0] - 1, np.int64(zeros.ctypes.data), table, places)  # fmt: skip
                    if crowded:
                        _gather_rows(flat, first, count, height, x.shape[3], piece, pieces, itemsize, gathered, table)
                    for panel in range(low, high):
                        start = origin + (panel - first_panel) * panel_size
                        lane = block * merged * outs + panel % across * width
                        used = min(width, (block + 1) * merged * outs - lane)
                        shift, target = bias[lane:], result[lane:]
                        rest = residual[lane:] if joined else residual
                        if half == tile:
                            multiply_narrow_tile(table, rounds, piece, flush, packed, start, sums, places, count, used,
                                                 shift, rest, joined, relu, target)  # fmt: skip
                        elif height < tile:
                            multiply_half_tile(table, rounds, piece, flush, packed, start, sums, places, count, used,
                                               shift, rest, joined, relu, target)  # fmt: skip
                        else:
                            multiply_tile(table, rounds, piece, flush, packed, start, sums, places, count, used,
                                          shift, rest, joined, relu, target)  # fmt: skip
                        if used < width:
                            _finish_partly(sums, count, used, width, places, shift, rest, relu, target)
            first_panel = stop


# --- plans -------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """Everything about a walk that depends on shapes only."""

    blocks: np.ndarray
    taps: np.ndarray
    lane_starts: np.ndarray
    where: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    steps: np.ndarray  # from a window's first pixel to that of every tap, in bytes
    zeros: np.ndarray
    split: np.ndarray
    ring: np.ndarray
    cost: float


def divide(tiles: int, panels: int, tile_time: float, input_time: float, weight_time: float, threads: int) -> Sizes:
    """Into how many runs of pixels and of panels `threads` jobs divide tiles x panels; times in nanoseconds.

    A job takes the time of its tiles, of reading its share of the input and of packing its share of the weights;
    the slowest counts. Early layers have many pixels and few weights, so pixels are divided; late ones the reverse.
    """

    def slowest(pixel_parts: int) -> float:
        panel_parts = threads // pixel_parts
        own_tiles, own_panels = -(-tiles // pixel_parts), -(-panels // panel_parts)
        work = own_tiles * own_panels * tile_time
        return work + input_time * own_tiles / tiles + weight_time * own_panels / panels

    pixel_parts = min((parts for parts in range(1, threads + 1) if threads % parts == 0), key=slowest)
    return pixel_parts, threads // pixel_parts


def pieces_of(depth: int) -> Sizes:
    """Into how many pieces a row of `depth` numbers is cut, and how many pieces a register adds up at most."""
    fewest = -(-depth // _LONGEST_SUM)
    pieces = next((n for n in range(fewest, 4 * fewest) if depth % n == 0), 1)
    return pieces, max(1, _LONGEST_SUM // (depth // pieces))


def _is_crowded(walk: Walk, blocks: Blocks, size: Sizes, result: Sizes, pixel_bytes: int) -> bool:
    """Whether a tile's rows, pixels one after the other, would meet in one set of L1."""
    pointwise = len(walk.rows) == 1 and walk.step == (1, 1) and not walk.rows.any() and not walk.columns.any()
    every = tuple(size) == (walk.height, walk.width)
    return pointwise and every and blocks.groups == 1 and pixel_bytes % 4096 == 0 and vector_bytes() == 64


def _ends(offsets: np.ndarray) -> Sizes:
    return int(offsets.min()), int(offsets.max())


NANOSECONDS_PER_PRODUCT = 0.01  # of a multiplication and an addition within a tile, on one core
NANOSECONDS_PER_NUMBER = 0.2  # to read from L3
NANOSECONDS_PER_WEIGHT = 0.5  # to pack


def make_plan(walk: Walk, blocks: Blocks, batch: int, size: Sizes, result: Sizes, packed: bool,
              dtype: np.dtype) -> Plan:  # fmt: skip
    """A plan for `batch` images of `size` that become images of the size `result`."""
    if blocks.groups == 1 and blocks.depth <= NARROW_INPUT:
        walk = in_runs(walk, size)
    tile, width = tile_rows(), panel_width(blocks.merged * blocks.outs, dtype)
    half = tile if width == lanes(dtype) else tile // 2
    height, across = padded_size(size, walk.border)
    full_depth = blocks.merged * blocks.depth * walk.run
    pixels_in_all = batch * walk.height * walk.width
    panels = blocks.groups // blocks.merged * -(-blocks.merged * blocks.outs // width)
    panel_size = len(walk.taps) * blocks.merged * blocks.depth * width
    tiles = -(-pixels_in_all // tile)
    tile_time = max(20.0, NANOSECONDS_PER_PRODUCT * tile * panel_size)
    weight_time = 0.0 if packed else NANOSECONDS_PER_WEIGHT * panels * panel_size
    cost = tiles * panels * tile_time + weight_time
    input_time = NANOSECONDS_PER_NUMBER * batch * height * across * blocks.groups * blocks.depth
    parts = divide(tiles, panels, tile_time, input_time, weight_time, threads_for(cost))
    pieces, flush = pieces_of(full_depth)
    resident = max(1, _GROUP_BYTES // (panel_size * dtype.itemsize))
    # Transposed weights are read in runs as wide as the panels packed together: memory wants them long.
    group = max(4 if blocks.out_stride == 1 else 1, resident)
    channels, pixel_bytes = blocks.groups * blocks.outs, blocks.groups * blocks.depth * dtype.itemsize
    where = (height, across, walk.height, walk.width, *walk.step, *walk.spread, *walk.start, *result, channels,
             *_ends(walk.rows), *_ends(walk.columns))  # fmt: skip
    return Plan(
        np.array(blocks, np.int64),
        np.ascontiguousarray(walk.taps, np.int64),
        panel_rows(blocks, walk.taps, width, lanes(dtype)),
        np.array(where, np.int64),
        np.ascontiguousarray(walk.rows, np.int64),
        np.ascontiguousarray(walk.columns, np.int64),
        np.ascontiguousarray((walk.rows * across + walk.columns) * pixel_bytes, np.int64),
        np.zeros(full_depth, dtype),
        np.array((width, lanes(dtype), tile, half, min(group, panels), resident, *parts, pieces, flush,
                  _is_crowded(walk, blocks, size, result, pixel_bytes)), np.int64),
        ring(walk.border, size, (walk.height, walk.width), walk.step, walk.rows, batch, tile),
        cost,
    )


def run(plan: Plan, x: np.ndarray, weight: np.ndarray | None, panels: np.ndarray | None, bias: np.ndarray | None,
        residual: np.ndarray | None, relu: bool, result: np.ndarray) -> None:  # fmt: skip
    """result (N, H', W', O) = relu(x·weight + bias + residual), all contiguous with channels last."""
    nothing = np.empty(0, x.dtype)
    launch(
        _walk_compiled,
        x,
        nothing if weight is None else weight,
        plan.taps,
        plan.blocks,
        plan.lane_starts,
        nothing if panels is None else panels,
        plan.where,
        plan.rows,
        plan.columns,
        plan.steps,
        plan.ring,
        plan.zeros,
        np.zeros(result.shape[3], x.dtype) if bias is None else bias,
        nothing if residual is None else residual,
        relu,
        result.reshape(-1),
        plan.split,
        cost=plan.cost,
    )


# --- forward -----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def forward_plan(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes,
                 dilation: Sizes, groups: int, packed: bool, dtype: np.dtype, threads: int) -> Plan:  # fmt: skip
    """The plan of a convolution; `threads` is the number that may be used, as part of the key."""
    output = convolution_output_size(x_shape[2:], weight_shape[2:], stride, padding, dilation)
    walk = forward_walk(output, weight_shape[2:], stride, padding, dilation)
    blocks = blocks_of(weight_shape, groups, dtype, transposed=False)
    return make_plan(walk, blocks, x_shape[0], x_shape[2:], output, packed, dtype)


def convolve(x: np.ndarray, weight: np.ndarray, panels: np.ndarray | None, bias: np.ndarray | None, stride: Sizes,
             padding: Sizes, dilation: Sizes, groups: int, out: np.ndarray, residual: np.ndarray | None = None,
             relu: bool = False) -> None:  # fmt: skip
    """out = relu(convolution(x, weight) + bias + residual), channels last; `panels` are the packed weight.

    No array is empty.
    """
    plan = forward_plan(x.shape, weight.shape, tuple(stride), tuple(padding), tuple(dilation), groups,
                        panels is not None, x.dtype, get_num_threads())  # fmt: skip
    shift = None if bias is None else readable(bias)
    rest = None if residual is None else pixels(residual).reshape(-1)
    flat = None if panels is not None else readable(weight).reshape(-1)
    run(plan, pixels(x), flat, panels, shift, rest, relu, out.transpose(0, 2, 3, 1))


# --- input gradient ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def gradient_plans(grad_shape: tuple[int, ...], weight_shape: tuple[int, ...], size: Sizes, stride: Sizes,
                   padding: Sizes, dilation: Sizes, groups: int, dtype: np.dtype,
                   threads: int) -> tuple[Plan, ...]:  # fmt: skip
    """The plans of an input gradient, one for every phase of the stride that has taps."""
    blocks = blocks_of(weight_shape, groups, dtype, transposed=True)
    walks = gradient_walks(size, weight_shape[2:], stride, padding, dilation)
    batch, grid = grad_shape[0], grad_shape[2:]
    return tuple(make_plan(walk, blocks, batch, grid, size, False, dtype) for walk in walks if len(walk.taps))


def input_gradient(grad: np.ndarray, weight: np.ndarray, grad_x: np.ndarray, stride: Sizes, padding: Sizes,
                   dilation: Sizes, groups: int) -> None:  # fmt: skip
    """Writes the gradient of a convolution's input into grad_x (N, C, H, W), channels last; no array is empty."""
    size = grad_x.shape[2:]
    plans = gradient_plans(grad.shape, weight.shape, size, tuple(stride), tuple(padding), tuple(dilation), groups,
                           grad.dtype, get_num_threads())  # fmt: skip
    if len(plans) < min(stride[0], size[0]) * min(stride[1], size[1]):
        grad_x[...] = 0  # pixels that no tap of the kernel reads
    flat = readable(weight).reshape(-1)
    source = pixels(grad)
    for plan in plans:
        run(plan, source, flat, None, None, None, False, grad_x.transpose(0, 2, 3, 1))
