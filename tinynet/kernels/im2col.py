"""im2col and col2im: a convolution's windows as columns of a matrix, and the way back.

`im2col` writes every window of x as one column, so that a convolution becomes a matrix product
(torch.nn.functional.unfold). `col2im` is its transpose: it adds every column back where it came from
(torch.nn.functional.fold), which is what the gradient needs.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels import memory
from tinynet.kernels.geometry import Sizes, convolution_output_size, valid_outputs
from tinynet.kernels.launch import inner, jit, launch, prange, readable
from tinynet.kernels.registry import Kernel


def _column_shape(
    shape: tuple[int, ...], kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[int, int, int]:
    """(N, C·kh·kw, OH·OW)."""
    output = convolution_output_size(shape[2:], kernel, stride, padding, dilation)
    return shape[0], shape[1] * kernel[0] * kernel[1], output[0] * output[1]


def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """np.empty for columns, refused with its size where it would take more than half of the memory."""
    size = float(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    there = memory.of_this_machine()
    if there is not None and size > there / 2:
        raise MemoryError(
            f"im2col: columns of shape {tuple(shape)} in {dtype} need {size / 1e9:.1f} GB, "
            f"this machine has {there / 1e9:.1f} GB"
        )
    return np.empty(shape, dtype)


def _im2col_loops(x, kernel, stride, padding, dilation):
    batch, channels, height, width = x.shape
    out_height, out_width = convolution_output_size((height, width), kernel, stride, padding, dilation)
    columns = np.zeros(_column_shape(x.shape, kernel, stride, padding, dilation), x.dtype)
    for n in range(batch):
        for c in range(channels):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    row = (c * kernel[0] + i) * kernel[1] + j
                    for oy in range(out_height):
                        for ox in range(out_width):
                            y = oy * stride[0] - padding[0] + i * dilation[0]
                            z = ox * stride[1] - padding[1] + j * dilation[1]
                            if 0 <= y < height and 0 <= z < width:
                                columns[n, row, oy * out_width + ox] = x[n, c, y, z]
    return columns


def _col2im_loops(columns, input_shape, kernel, stride, padding, dilation):
    batch, channels, height, width = input_shape
    out_height, out_width = convolution_output_size((height, width), kernel, stride, padding, dilation)
    x = np.zeros(input_shape, columns.dtype)
    for n in range(batch):
        for c in range(channels):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    row = (c * kernel[0] + i) * kernel[1] + j
                    for oy in range(out_height):
                        for ox in range(out_width):
                            y = oy * stride[0] - padding[0] + i * dilation[0]
                            z = ox * stride[1] - padding[1] + j * dilation[1]
                            if 0 <= y < height and 0 <= z < width:
                                x[n, c, y, z] += columns[n, row, oy * out_width + ox]
    return x


def _tap_slices(offset: int, size: int, output: int, stride: int) -> tuple[slice, slice]:
    """Where one kernel tap reads: (slice of the input, slice of the output) along one axis."""
    start, stop = valid_outputs(offset, size, output, stride)
    if start == stop:
        return slice(0, 0), slice(0, 0)
    return slice(start * stride + offset, (stop - 1) * stride + offset + 1, stride), slice(start, stop)


def _taps(size: Sizes, output: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes):
    """For every tap (i, j) of a kernel: its index and the matching slices of the input and of the output."""
    for i in range(kernel[0]):
        rows_in, rows_out = _tap_slices(i * dilation[0] - padding[0], size[0], output[0], stride[0])
        for j in range(kernel[1]):
            columns_in, columns_out = _tap_slices(j * dilation[1] - padding[1], size[1], output[1], stride[1])
            yield i, j, (..., rows_in, columns_in), (..., rows_out, columns_out)


def _im2col_numpy(x, kernel, stride, padding, dilation):
    """Windows of x (N, C, H, W) as columns (N, C·kh·kw, OH·OW), zero outside (torch's F.unfold)."""
    output = convolution_output_size(x.shape[2:], kernel, stride, padding, dilation)
    shape = _column_shape(x.shape, kernel, stride, padding, dilation)
    columns = allocate(shape, x.dtype)
    columns[:] = 0
    windows = columns.reshape(*x.shape[:2], *kernel, *output)
    for i, j, source, target in _taps(x.shape[2:], output, kernel, stride, padding, dilation):
        windows[:, :, i, j][target] = x[source]
    return columns


def _col2im_numpy(columns, input_shape, kernel, stride, padding, dilation):
    """Columns (N, C·kh·kw, OH·OW) summed back into an array of `input_shape` (torch's F.fold)."""
    output = convolution_output_size(input_shape[2:], kernel, stride, padding, dilation)
    x = np.zeros(input_shape, columns.dtype)
    windows = columns.reshape(*input_shape[:2], *kernel, *output)
    for i, j, source, target in _taps(input_shape[2:], output, kernel, stride, padding, dilation):
        x[source] += windows[:, :, i, j][target]
    return x


# --- Numba -------------------------------------------------------------------------------------------------
#
# `at` marks an index that is known to be at least 0: Numba then leaves out the wrap-around of negative
# indices, and LLVM turns the loop into vector instructions.

at = np.uint64


@inner
def gather_columns(x, channel, first_row, rows, first_pixel, pixels, out_height, out_width,
                   kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
                   columns):  # fmt: skip
    """Fill columns (rows, pixels): im2col's rows from `first_row` on, of the channels from `channel` on.

    Pixels are counted through the whole batch: n·OH·OW + oy·OW + ox.
    """
    height, width = x.shape[2], x.shape[3]
    taps = kernel_height * kernel_width
    for r in range(rows):
        c = channel + (first_row + r) // taps
        tap = (first_row + r) % taps
        shift_y = (tap // kernel_width) * dilation_y - pad_y
        shift_x = (tap % kernel_width) * dilation_x - pad_x
        # outputs [inside, outside) of a row read inside of the input's row
        inside = 0 if shift_x >= 0 else (-shift_x + stride_x - 1) // stride_x
        outside = 0 if shift_x >= width else min(out_width, (width - 1 - shift_x) // stride_x + 1)
        n = first_pixel // (out_height * out_width)
        oy = first_pixel // out_width % out_height
        ox = first_pixel % out_width
        done = 0
        while done < pixels:
            count = min(out_width - ox, pixels - done)
            y = oy * stride_y + shift_y
            start = stop = 0
            if 0 <= y < height:
                start = min(max(inside - ox, 0), count)
                stop = max(min(outside - ox, count), start)
            for q in range(start):
                columns[r, at(done + q)] = 0
            source = ox * stride_x + shift_x
            if stride_x == 1:
                for q in range(start, stop):
                    columns[r, at(done + q)] = x[n, c, y, at(source + q)]
            else:
                for q in range(start, stop):
                    columns[r, at(done + q)] = x[n, c, y, at(source + q * stride_x)]
            for q in range(stop, count):
                columns[r, at(done + q)] = 0
            done += count
            ox = 0
            oy += 1
            if oy == out_height:
                oy = 0
                n += 1


@inner
def scatter_columns(columns, first_row, rows, first_y, count_y, grad_x, n, channel, out_width,
                    kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x):  # fmt: skip
    """Add columns (rows, count_y·OW) of the output rows from `first_y` on back into grad_x[n]."""
    height, width = grad_x.shape[2], grad_x.shape[3]
    taps = kernel_height * kernel_width
    for r in range(rows):
        c = channel + (first_row + r) // taps
        tap = (first_row + r) % taps
        shift_y = (tap // kernel_width) * dilation_y - pad_y
        shift_x = (tap % kernel_width) * dilation_x - pad_x
        start = 0 if shift_x >= 0 else (-shift_x + stride_x - 1) // stride_x
        stop = 0 if shift_x >= width else min(out_width, (width - 1 - shift_x) // stride_x + 1)
        for row in range(count_y):
            y = (first_y + row) * stride_y + shift_y
            if 0 <= y < height:
                for ox in range(start, stop):
                    grad_x[n, c, y, at(ox * stride_x + shift_x)] += columns[r, at(row * out_width + ox)]


@jit
def _im2col_compiled(x, columns, out_height, out_width, block, kernel_height, kernel_width,
                     stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x):  # fmt: skip
    batch, rows, pixels = columns.shape
    blocks = (rows + block - 1) // block
    for job in prange(batch * blocks):
        n = job // blocks
        first = job % blocks * block
        count = min(block, rows - first)
        gather_columns(x, np.int64(0), first, count, n * pixels, pixels, out_height, out_width,
                       kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
                       columns[n, first : first + count])  # fmt: skip


@jit
def _col2im_compiled(columns, x, out_height, out_width, kernel_height, kernel_width,
                     stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x):  # fmt: skip
    batch, channels = x.shape[0], x.shape[1]
    taps = kernel_height * kernel_width
    for job in prange(batch * channels):
        n = job // channels
        c = job % channels
        start = np.int64(0)  # a literal 0 would be compiled as a type of its own
        scatter_columns(columns[n, c * taps : (c + 1) * taps], start, taps, start, out_height, x, n, c, out_width,
                        kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                        dilation_y, dilation_x)  # fmt: skip


def _im2col_numba(x, kernel, stride, padding, dilation):
    output = convolution_output_size(x.shape[2:], kernel, stride, padding, dilation)
    columns = allocate(_column_shape(x.shape, kernel, stride, padding, dilation), x.dtype)
    if columns.size:
        block = max(1, -(-columns.shape[1] // 16))
        window = (*kernel, *stride, *padding, *dilation)
        launch(_im2col_compiled, readable(x), columns, *output, block, *window, cost=0.5 * columns.size)
    return columns


def _col2im_numba(columns, input_shape, kernel, stride, padding, dilation):
    output = convolution_output_size(input_shape[2:], kernel, stride, padding, dilation)
    x = np.zeros(input_shape, columns.dtype)
    if columns.size:
        window = (*kernel, *stride, *padding, *dilation)
        launch(_col2im_compiled, readable(columns), x, *output, *window, cost=0.7 * columns.size)
    return x


im2col = Kernel(
    "im2col",
    "convolution",
    loops=_im2col_loops,
    numpy=_im2col_numpy,
    numba=_im2col_numba,
    shapes=lambda x, *window: (_column_shape(x.shape, *window),),
)

col2im = Kernel(
    "col2im",
    "convolution",
    loops=_col2im_loops,
    numpy=_col2im_numpy,
    numba=_col2im_numba,
    shapes=lambda columns, input_shape, *window: (tuple(input_shape),),
)
