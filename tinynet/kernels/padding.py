"""Padding without a padded copy: lines of an image get their zeros when a tile is about to read them.

With few channels a kernel's row is read in one piece, and that piece may hang over the image's edge; so it is read
from lines that have zeros around. A padded copy of the whole batch would cost as many trips through memory as the
convolution itself. Instead every job keeps a ring of a few such lines:

- in memory: the images, read once, from the first line to the last;
- in L1: the ring, just long enough for the lines below one tile (or one chunk of pixels). Line number `k` of all
  padded images, stacked, lies in slot k modulo the ring's length, a power of two.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.geometry import Sizes
from tinynet.kernels.launch import inner

at = np.uint64  # an index known to be at least 0, see elementwise.py

Border = tuple[int, int, int, int]  # pixels of zeros above, below, left and right


def padded_size(size: Sizes, border: Border | None) -> Sizes:
    """Height and width of an image of `size` with its border."""
    above, below, left, right = border or (0, 0, 0, 0)
    return size[0] + above + below, size[1] + left + right


def ring(border: Border | None, size: Sizes, grid: Sizes, step: Sizes, rows: np.ndarray, batch: int,
         pixels: int) -> np.ndarray:  # fmt: skip
    """What `copy_lines` has to know: lines of the ring (0 without a border), border above and left, padded size.

    The ring holds what `pixels` pixels of the grid read, one after another: pixel (y, x) reads the padded lines
    y·step + rows of its image.
    """
    height, width = padded_size(size, border)
    if border is None:
        return np.array((0, 0, 0, height, width), np.int64)
    first = np.arange(0, batch * grid[0] * grid[1], pixels)
    last = np.minimum(first + pixels, batch * grid[0] * grid[1]) - 1
    (low, high) = (p // (grid[0] * grid[1]) * height + p // grid[1] % grid[0] * step[0] for p in (first, last))
    lines = int((high - low).max(initial=0)) + int(rows.max()) - int(rows.min()) + 1
    return np.array((1 << (lines - 1).bit_length(), border[0], border[2], height, width), np.int64)


@inner
def copy_lines(x, first_pixel, last_pixel, grid_height, grid_width, step, first_row, last_row, ring, copied, lines):
    """Brings the padded lines of the images x (N, H, W, C) below some pixels of the grid into the ring `lines`.

    Those before `copied` are there already; returns the number behind the last, the `copied` of the next call.
    """
    mask, above, left, height, width = ring[0] - 1, ring[1], ring[2], ring[3], ring[4]
    depth = x.shape[3]
    size = width * depth
    first_line, last_line = first_pixel // grid_width, last_pixel // grid_width
    begin = first_line // grid_height * height + first_line % grid_height * step + first_row
    stop = last_line // grid_height * height + last_line % grid_height * step + last_row + 1
    for index in range(max(begin, copied), min(stop, height * len(x))):
        n, y = index // height, index % height - above
        target = lines[(index & mask) * size :]
        first, last = left * depth, (left + x.shape[2]) * depth
        if y < 0 or y >= x.shape[1]:
            first, last = size, size
        for k in range(first):
            target[at(k)] = 0
        if first < last:
            source = x[n, y].reshape(-1)
            for k in range(last - first):
                target[at(first + k)] = source[at(k)]
        for k in range(last, size):
            target[at(k)] = 0
    return stop
