"""Weights packed into panels, in the order in which a tile reads them.

A weight (O, C, kh, kw) keeps the numbers of one output channel side by side; a tile wants, for every tap and input
channel, the numbers of 32 output channels side by side: a panel is [tap][input channel][32 output channels], so
that the tile reads it from the first byte to the last. Packing is a transposition. It is done in registers, a
square of 16 x 16 numbers at a time (`transpose_tile`): 16 loads, 64 exchanges between registers, 16 stores, all to
lines that are in L1. A model that is used for inference only packs once (`PackedConvolution`); elsewhere every job
packs what it needs into L2 just before it is used, which costs about a fiftieth of a late layer at batch 8.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinynet.kernels.launch import inner, jit, launch, prange, readable
from tinynet.kernels.tile import VECTORS, copy_tile, lanes, transpose_tile


class Blocks(NamedTuple):
    """How a weight (O, C/groups, taps) is read: as `groups` blocks of outs x depth channels, forward or transposed.

    Small blocks are multiplied `merged` at a time, on the diagonal of a larger one that is zero elsewhere. The
    strides lead from one output, one input channel and one block to the next in the weight's memory.
    """

    groups: int
    merged: int
    outs: int
    depth: int
    out_stride: int
    depth_stride: int
    block_stride: int


def panel_width(outs: int, dtype: np.dtype) -> int:
    """Output channels of a panel: two vectors, or one where that holds them all."""
    return lanes(dtype) * (1 if outs <= lanes(dtype) else VECTORS)


def blocks_of(weight_shape: tuple[int, ...], groups: int, dtype: np.dtype, transposed: bool) -> Blocks:
    """The blocks of a weight (O, C/groups, kh, kw); `transposed` exchanges inputs and outputs."""
    out_channels, inputs, *kernel = weight_shape
    outs, taps = out_channels // groups, kernel[0] * kernel[1]
    strides = (inputs * taps, taps)
    if transposed:
        outs, inputs, strides = inputs, outs, strides[::-1]
    merged = max((m for m in range(1, lanes(dtype) * VECTORS // outs + 1) if groups % m == 0), default=1)
    return Blocks(groups, merged, outs, inputs, *strides, outs * inputs * taps)


@functools.lru_cache(maxsize=1024)
def merges(weight_shape: tuple[int, ...], groups: int, dtype: np.dtype) -> bool:
    """Whether a convolution of so many groups multiplies several of them at a time, forward or backward."""
    return any(blocks_of(weight_shape, groups, dtype, transposed).merged > 1 for transposed in (False, True))


@inner
def pack_panel(weight, block, blocks, taps, first_lane, width, size, rows, panel, start):
    """panel[start:] = [tap][merged·depth][width]: the weights of `width` output channels from `first_lane`.

    `rows` is that of `panel_rows`; `size` is the number of lanes of a vector.
    """
    merged, outs, depth, out_stride, depth_stride = blocks[1], blocks[2], blocks[3], blocks[4], blocks[5]
    used = min(width, merged * outs - first_lane)
    whole = 0
    if merged > 1 or used < width:
        for index in range(len(taps) * merged * depth * width):
            panel[start + index] = 0
    elif len(rows) > 0 and depth_stride != len(taps):  # those of one tap of an input channel, an output apart
        whole = (depth - 1) * len(taps)  # a square may read beyond the last input channel's
        for d in range(depth - 1):
            for lane in range(0, width, size):
                source = block * blocks[6] + (first_lane + lane) * out_stride + d * depth_stride
                for k in range(0, len(rows), size):
                    transpose_tile(weight, source + k, out_stride, rows, k, panel, start + d * width + lane)
    elif len(rows) > 0:  # the weights of an output channel lie side by side: square by square
        whole = len(rows) // size * size
        for k in range(0, whole, size):
            for lane in range(0, width, size):
                source = block * blocks[6] + (first_lane + lane) * out_stride + k
                transpose_tile(weight, source, out_stride, rows, k, panel, start + lane)
    for sub in range(merged):
        low = max(first_lane, sub * outs)
        high = min(first_lane + used, (sub + 1) * outs)
        # A few input channels at a time, so that the lines being written stay in L1.
        step = max(1, 128 // len(taps))
        for first in range(whole // len(taps), depth, step):
            for o in range(low, high):
                source = (block + sub) * blocks[6] + (o - sub * outs) * out_stride
                place = start + o - first_lane
                for d in range(first, min(depth, first + step)):
                    for t in range(len(taps)):
                        value = weight[source + d * depth_stride + taps[t]]
                        panel[place + (t * merged * depth + sub * depth + d) * width] = value


@inner
def pack_rows(weight, block, blocks, first_lane, panels, width, size, panel_size, packed):
    """As pack_panel for several panels at once, where output channels lie side by side and there is one tap."""
    outs, depth = blocks[2], blocks[3]
    for d in range(depth):
        source = block * blocks[6] + d * blocks[5]
        for panel in range(panels):
            first = first_lane + panel * width
            place = panel * panel_size + d * width
            if first + VECTORS * size <= outs:
                copy_tile(weight, source + first, packed, place)
            else:
                for lane in range(width):
                    packed[place + lane] = weight[source + first + lane] if first + lane < outs else 0


@jit
def _pack_compiled(weight, blocks, taps, across, width, size, rows, panels):
    panel_size = len(taps) * blocks[1] * blocks[3] * width
    for job in prange(len(panels) // panel_size):
        pack_panel(weight, job // across * blocks[1], blocks, taps, job % across * width, width, size, rows,
                   panels, job * panel_size)  # fmt: skip


def panel_rows(blocks: Blocks, taps: np.ndarray, width: int, size: int) -> np.ndarray:
    """For `pack_panel`: where the weights that it finds side by side go, in squares of `size`; empty for one by one.

    Forward these are (d, t) of an output channel. Transposed they are the taps of an input and an output channel; the
    last square is filled up with places of its first tap, which is stored last.
    """
    if blocks.merged > 1:
        return np.empty(0, np.int64)
    if blocks.depth_stride == len(taps):
        d, t = np.divmod(np.arange(blocks.depth * len(taps)), len(taps))
        return (t * blocks.depth + d) * width
    if blocks.out_stride != len(taps) or len(taps) == 1:
        return np.empty(0, np.int64)
    places = np.empty(-(-len(taps) // size) * size, np.int64)
    places[:] = np.repeat(np.argsort(taps)[::size], size)
    places[: len(taps)] = np.argsort(taps)
    return places * blocks.depth * width


def pack_forward(weight: np.ndarray, groups: int) -> np.ndarray:
    """All panels of a weight (O, C/groups, kh, kw), one after the other, as a convolution reads them."""
    blocks = blocks_of(weight.shape, groups, weight.dtype, transposed=False)
    width = panel_width(blocks.merged * blocks.outs, weight.dtype)
    across = -(-blocks.merged * blocks.outs // width)
    taps = np.arange(weight.shape[2] * weight.shape[3])
    panels = np.empty(groups // blocks.merged * across * len(taps) * blocks.merged * blocks.depth * width, weight.dtype)
    lane = lanes(weight.dtype)
    launch(_pack_compiled, readable(weight).reshape(-1), np.array(blocks, np.int64), taps, across, width, lane,
           panel_rows(blocks, taps, width, lane), panels, cost=panels.size)  # fmt: skip
    return panels
