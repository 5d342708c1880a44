"""Convolution (cross-correlation, as torch.nn.functional.conv2d) and its two gradients.

All three are matrix products between weights, windows (`im2col`) and output pixels:

    y = W·columns        columns' = Wᵀ·y', x' = col2im(columns')        W' = y'·columnsᵀ
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.geometry import Sizes, convolution_output_size
from tinynet.kernels.im2col import at, col2im, gather_columns, im2col, scatter_columns
from tinynet.kernels.launch import get_num_threads, inner, jit, launch, prange, product, readable
from tinynet.kernels.linear import grouped_products
from tinynet.kernels.registry import Kernel

# The plain path takes as many images at once as fit their columns into this many bytes.
_COLUMN_BYTES = 1 << 30


# --- the definition ----------------------------------------------------------------------------------------


def _every_product(input_shape, weight_shape, stride, padding, dilation, groups):
    """All index pairs of a convolution: (output n, o, oy, ox), (input n, c, y, x), (weight o, c, i, j)."""
    batch, _, height, width = input_shape
    out_channels, group_channels, *kernel = weight_shape
    out_height, out_width = convolution_output_size((height, width), kernel, stride, padding, dilation)
    for n, o, oy, ox in np.ndindex(batch, out_channels, out_height, out_width):
        first_channel = o // (out_channels // groups) * group_channels
        for c, i, j in np.ndindex(group_channels, *kernel):
            y = oy * stride[0] - padding[0] + i * dilation[0]
            x = ox * stride[1] - padding[1] + j * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                yield (n, o, oy, ox), (n, first_channel + c, y, x), (o, c, i, j)


def _convolution_loops(x, weight, bias, stride, padding, dilation, groups):
    y = np.zeros(_output_shape(x.shape, weight.shape, stride, padding, dilation), x.dtype)
    for at_output, at_input, at_weight in _every_product(x.shape, weight.shape, stride, padding, dilation, groups):
        y[at_output] += weight[at_weight] * x[at_input]
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _input_gradient_loops(grad, weight, input_shape, stride, padding, dilation, groups):
    grad_x = np.zeros(input_shape, grad.dtype)
    for at_output, at_input, at_weight in _every_product(input_shape, weight.shape, stride, padding, dilation, groups):
        grad_x[at_input] += weight[at_weight] * grad[at_output]
    return grad_x


def _weight_gradient_loops(grad, x, weight_shape, stride, padding, dilation, groups):
    grad_weight = np.zeros(weight_shape, grad.dtype)
    for at_output, at_input, at_weight in _every_product(x.shape, weight_shape, stride, padding, dilation, groups):
        grad_weight[at_weight] += x[at_input] * grad[at_output]
    return grad_weight


# --- the plain path: im2col and a product ------------------------------------------------------------------


def _output_shape(
    input_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[int, ...]:
    output = convolution_output_size(input_shape[2:], weight_shape[2:], stride, padding, dilation)
    return input_shape[0], weight_shape[0], *output


def _image_slices(batch: int, rows: int, pixels: int, itemsize: int) -> list[slice]:
    """The batch in pieces whose columns fit into memory; one piece in all usual cases."""
    step = max(1, _COLUMN_BYTES // max(1, rows * pixels * itemsize))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _plain_slices(x_shape, weight_shape, out_shape, itemsize):
    rows = x_shape[1] * weight_shape[2] * weight_shape[3]
    return _image_slices(x_shape[0], rows, out_shape[2] * out_shape[3], itemsize)


def _convolution_numpy(x, weight, bias, stride, padding, dilation, groups):
    """y (N, O, OH, OW) from x (N, C, H, W), weight (O, C/groups, kh, kw) and bias (O,) or None."""
    y = np.empty(_output_shape(x.shape, weight.shape, stride, padding, dilation), x.dtype)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    for images in _plain_slices(x.shape, weight.shape, y.shape, x.itemsize):
        columns = im2col(x[images], weight.shape[2:], stride, padding, dilation)
        columns = columns.reshape(len(columns), groups, rows.shape[2], columns.shape[2])
        y[images] = product(rows, columns).reshape(y[images].shape)
    if bias is not None:
        y += bias.reshape(-1, 1, 1)
    return y


def _input_gradient_numpy(grad, weight, input_shape, stride, padding, dilation, groups):
    """Gradient (N, C, H, W) of a convolution's input from grad (N, O, OH, OW)."""
    grad_x = np.empty(input_shape, grad.dtype)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)
    for images in _plain_slices(input_shape, weight.shape, grad.shape, grad.itemsize):
        part = grad[images]
        pixels = part.shape[2] * part.shape[3]
        columns = product(rows, part.reshape(len(part), groups, weight.shape[0] // groups, pixels))
        columns = columns.reshape(len(part), -1 if columns.size else groups * rows.shape[1], pixels)
        shape = (len(part), *input_shape[1:])
        grad_x[images] = col2im(columns, shape, weight.shape[2:], stride, padding, dilation)
    return grad_x


def _weight_gradient_numpy(grad, x, weight_shape, stride, padding, dilation, groups):
    """Gradient (O, C/groups, kh, kw) of a convolution's weight from grad (N, O, OH, OW)."""
    out_channels, group_channels, *kernel = weight_shape
    rows = group_channels * kernel[0] * kernel[1]
    grad_weight = np.zeros((groups, out_channels // groups, rows), grad.dtype)
    for images in _plain_slices(x.shape, weight_shape, grad.shape, x.itemsize):
        columns = im2col(x[images], tuple(kernel), stride, padding, dilation)
        part = grad[images].reshape(len(columns), groups, out_channels // groups, columns.shape[2])
        columns = columns.reshape(len(columns), groups, rows, columns.shape[2])
        left = part.transpose(1, 2, 0, 3).reshape(groups, out_channels // groups, -1)
        right = columns.transpose(1, 2, 0, 3).reshape(groups, rows, -1)
        grad_weight += product(left, right.transpose(0, 2, 1))
    return grad_weight.reshape(weight_shape)


# --- Numba: the same products, tile by tile ----------------------------------------------------------------
#
# The columns of a whole batch can take gigabytes. A tile is a run of output pixels, counted through the batch,
# whose columns fit into a core's cache: they are written, multiplied on one BLAS thread and dropped. What a
# tile computes depends on shapes alone, so neither the number of threads nor that of jobs changes a bit.

_TILE_NUMBERS = 1 << 17
_LONGEST_LAUNCH = 5e8  # nanoseconds of estimated work, so that Ctrl-C is answered soon


def _tile_pixels(rows: int, pixels: int) -> int:
    """Pixels per tile: the columns fill half of a usual level-2 cache, within bounds where BLAS is fast."""
    fitting = max(64, min(2048, _TILE_NUMBERS // rows // 16 * 16))
    return max(1, min(fitting, pixels))


@inner
def _copy_pixels(y, first_channel, channels, first_pixel, pixels, tile):
    """tile (channels, pixels) = the channels of y (N, O, P) over pixels counted through the batch."""
    per_image = y.shape[2]
    for o in range(channels):
        n = first_pixel // per_image
        p = first_pixel % per_image
        done = 0
        while done < pixels:
            count = min(per_image - p, pixels - done)
            for q in range(count):
                tile[o, at(done + q)] = y[n, first_channel + o, at(p + q)]
            done += count
            p = 0
            n += 1


@inner
def _store_pixels(tile, bias, has_bias, y, first_channel, channels, first_pixel, pixels):
    """The way back: y (N, O, P) = tile (channels, pixels) + bias."""
    per_image = y.shape[2]
    for o in range(channels):
        n = first_pixel // per_image
        p = first_pixel % per_image
        done = 0
        while done < pixels:
            count = min(per_image - p, pixels - done)
            if has_bias:
                shift = bias[first_channel + o]
                for q in range(count):
                    y[n, first_channel + o, at(p + q)] = tile[o, at(done + q)] + shift
            else:
                for q in range(count):
                    y[n, first_channel + o, at(p + q)] = tile[o, at(done + q)]
            done += count
            p = 0
            n += 1


@jit
def _tiles_compiled(x, weight, bias, has_bias, y, tile, jobs, out_height, out_width, kernel_height, kernel_width,
                    stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x):  # fmt: skip
    groups, out_channels, rows = weight.shape
    group_channels = x.shape[1] // groups
    pixels = y.shape[0] * y.shape[2]
    tiles = (pixels + tile - 1) // tile
    for job in prange(jobs):
        column_buffer = np.empty(rows * tile, x.dtype)
        result_buffer = np.empty(out_channels * tile, x.dtype)
        for index in range(groups * tiles * job // jobs, groups * tiles * (job + 1) // jobs):
            g = index // tiles
            first = index % tiles * tile
            count = min(tile, pixels - first)
            columns = column_buffer[: rows * count].reshape(rows, count)
            result = result_buffer[: out_channels * count].reshape(out_channels, count)
            gather_columns(x, g * group_channels, np.int64(0), rows, first, count, out_height, out_width,
                           kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                           dilation_y, dilation_x, columns)  # fmt: skip
            np.dot(weight[g], columns, result)
            _store_pixels(result, bias, has_bias, y, g * out_channels, out_channels, first, count)


@jit
def _weight_gradient_compiled(grad, x, parts, tile, row_block, out_height, out_width,
                              kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                              dilation_y, dilation_x):  # fmt: skip
    chunks, groups, out_channels, rows = parts.shape
    group_channels = x.shape[1] // groups
    pixels = grad.shape[0] * grad.shape[2]
    tiles = (pixels + tile - 1) // tile
    row_blocks = (rows + row_block - 1) // row_block
    for job in prange(chunks * groups * row_blocks):
        chunk = job // (groups * row_blocks)
        g = job // row_blocks % groups
        first_row = job % row_blocks * row_block
        count_rows = min(row_block, rows - first_row)
        grad_buffer = np.empty(out_channels * tile, x.dtype)
        column_buffer = np.empty(count_rows * tile, x.dtype)
        result = np.empty((out_channels, count_rows), x.dtype)
        for index in range(tiles * chunk // chunks, tiles * (chunk + 1) // chunks):
            first = index * tile
            count = min(tile, pixels - first)
            grad_tile = grad_buffer[: out_channels * count].reshape(out_channels, count)
            columns = column_buffer[: count_rows * count].reshape(count_rows, count)
            _copy_pixels(grad, g * out_channels, out_channels, first, count, grad_tile)
            gather_columns(x, g * group_channels, first_row, count_rows, first, count, out_height, out_width,
                           kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                           dilation_y, dilation_x, columns)  # fmt: skip
            np.dot(grad_tile, columns.T, result)
            for o in range(out_channels):
                for r in range(count_rows):
                    parts[chunk, g, o, at(first_row + r)] += result[o, r]


@jit
def _input_gradient_compiled(grad, weight, grad_x, tile_rows, channel_block, out_height, out_width,
                             kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                             dilation_y, dilation_x):  # fmt: skip
    groups, rows, out_channels = weight.shape
    taps = kernel_height * kernel_width
    group_channels = rows // taps
    blocks = (group_channels + channel_block - 1) // channel_block
    for job in prange(grad_x.shape[0] * groups * blocks):
        n = job // (groups * blocks)
        g = job // blocks % groups
        first_channel = job % blocks * channel_block
        count_rows = min(channel_block, group_channels - first_channel) * taps
        first_row = first_channel * taps
        grad_buffer = np.empty(out_channels * tile_rows * out_width, grad.dtype)
        column_buffer = np.empty(count_rows * tile_rows * out_width, grad.dtype)
        for first_y in range(0, out_height, tile_rows):
            count_y = min(tile_rows, out_height - first_y)
            count = count_y * out_width
            grad_tile = grad_buffer[: out_channels * count].reshape(out_channels, count)
            columns = column_buffer[: count_rows * count].reshape(count_rows, count)
            first_pixel = (n * out_height + first_y) * out_width
            _copy_pixels(grad, g * out_channels, out_channels, first_pixel, count, grad_tile)
            np.dot(weight[g, first_row : first_row + count_rows], grad_tile, columns)
            scatter_columns(columns, first_row, count_rows, first_y, count_y, grad_x, n, g * group_channels,
                            out_width, kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
                            dilation_y, dilation_x)  # fmt: skip


def _is_pointwise(weight_shape, stride, padding) -> bool:
    return tuple(weight_shape[2:]) == (1, 1) and tuple(stride) == (1, 1) and tuple(padding) == (0, 0)


def _work(y_shape, weight_shape) -> float:
    """Estimated single-thread nanoseconds of one image: the multiplications, and writing the columns."""
    pixels = y_shape[2] * y_shape[3]
    rows = weight_shape[1] * weight_shape[2] * weight_shape[3]
    return pixels * rows * (weight_shape[0] / 40 + 0.5)


def _launch_slices(batch: int, nanoseconds_per_image: float) -> list[slice]:
    step = max(1, int(_LONGEST_LAUNCH // max(1.0, nanoseconds_per_image)))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _as_one_row(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, C, 1, H·W): a pointwise convolution knows no rows."""
    return x.reshape(*x.shape[:2], 1, x.shape[2] * x.shape[3])


def _convolution_numba(x, weight, bias, stride, padding, dilation, groups):
    y = np.empty(_output_shape(x.shape, weight.shape, stride, padding, dilation), x.dtype)
    if not y.size or not weight.size:
        return _convolution_numpy(x, weight, bias, stride, padding, dilation, groups)
    x, weight = readable(x), readable(weight)
    bias = None if bias is None else readable(bias)
    if groups == x.shape[1] == weight.shape[0] * weight.shape[1]:
        return _depthwise(x, weight, bias, y, stride, padding, dilation)
    work = _work(y.shape, weight.shape)
    for images in _launch_slices(len(x), work):
        _forward(x[images], weight, bias, y[images], stride, padding, dilation, groups, work)
    return y


def _forward(x, weight, bias, y, stride, padding, dilation, groups, work_per_image):
    """One launch's worth of a convolution, by the path that suits its shape."""
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    out_pixels = y.shape[2] * y.shape[3]
    tile = _tile_pixels(rows.shape[2], len(x) * out_pixels)
    pointwise = _is_pointwise(weight.shape, stride, padding)
    if pointwise and (len(x) == 1 or out_pixels >= 512):
        columns = x.reshape(len(x), groups, rows.shape[2], out_pixels)
    elif len(x) * out_pixels < 4 * tile:  # few pixels: more jobs come from blocks of output channels
        columns = im2col.implementations["numba"](x, weight.shape[2:], stride, padding, dilation)
        columns = columns.reshape(len(x), groups, rows.shape[2], out_pixels)
    else:
        columns = None
    if columns is not None:
        shift = None if bias is None else bias.reshape(groups, -1)
        grouped_products(rows, columns, shift, y.reshape(len(x), groups, rows.shape[1], out_pixels))
        return
    output = (1, out_pixels) if pointwise else y.shape[2:]
    window = (*weight.shape[2:], *stride, *padding, *dilation)
    jobs = 4 * get_num_threads()
    launch(
        _tiles_compiled,
        _as_one_row(x) if pointwise else x,
        rows,
        np.zeros(1, x.dtype) if bias is None else bias,
        bias is not None,
        y.reshape(*y.shape[:2], out_pixels),
        tile,
        jobs,
        *output,
        *window,
        cost=work_per_image * len(x),
    )


def _input_gradient_numba(grad, weight, input_shape, stride, padding, dilation, groups):
    if not grad.size or not weight.size:
        return np.zeros(input_shape, grad.dtype)
    if groups == input_shape[1] == weight.shape[0] * weight.shape[1]:
        return _depthwise_input_gradient(grad, weight, input_shape, stride, padding, dilation)
    kernel = weight.shape[2:]
    mirrored = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding))
    if tuple(stride) == (1, 1) and min(mirrored) >= 0:
        return _convolution_numba(grad, _mirrored_weight(weight, groups), None, stride, mirrored, dilation, groups)
    if tuple(kernel) == (1, 1) and tuple(padding) == (0, 0):  # a strided 1x1 reads every stride-th pixel only
        grad_x = np.zeros(input_shape, grad.dtype)
        at_pixels = _convolution_numba(grad, _mirrored_weight(weight, groups), None, (1, 1), padding, dilation, groups)
        grad_x[:, :, :: stride[0], :: stride[1]] = at_pixels
        return grad_x
    return _input_gradient_tiles(grad, weight, input_shape, stride, padding, dilation, groups)


def _mirrored_weight(weight, groups):
    """(O, C/groups, kh, kw) -> (C, O/groups, kh, kw), turned by 180°: with stride 1 the gradient of a
    convolution is the convolution of its gradient with this."""
    out_channels, group_channels, *kernel = weight.shape
    split = weight[:, :, ::-1, ::-1].reshape(groups, out_channels // groups, group_channels, *kernel)
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(groups * group_channels, out_channels // groups, *kernel)


def _input_gradient_tiles(grad, weight, input_shape, stride, padding, dilation, groups):
    grad_x = np.zeros(input_shape, grad.dtype)
    grad = readable(grad)
    out_channels, group_channels, *kernel = weight.shape
    taps = kernel[0] * kernel[1]
    transposed = readable(weight.reshape(groups, out_channels // groups, -1).transpose(0, 2, 1))
    channel_block = max(1, min(group_channels, -(-128 // taps)))
    tile_rows = max(1, min(grad.shape[2], _TILE_NUMBERS // (channel_block * taps * grad.shape[3])))
    work = _work(grad.shape, weight.shape)
    window = (*kernel, *stride, *padding, *dilation)
    for images in _launch_slices(len(grad), work):
        part = grad[images].reshape(-1, out_channels, grad.shape[2] * grad.shape[3])
        launch(
            _input_gradient_compiled,
            part,
            transposed,
            grad_x[images],
            tile_rows,
            channel_block,
            *grad.shape[2:],
            *window,
            cost=work * len(part),
        )
    return grad_x


def _weight_gradient_numba(grad, x, weight_shape, stride, padding, dilation, groups):
    if not grad.size or not np.prod(weight_shape):
        return np.zeros(weight_shape, grad.dtype)
    grad, x = readable(grad), readable(x)
    if groups == x.shape[1] == weight_shape[0] * weight_shape[1]:
        return _depthwise_weight_gradient(grad, x, weight_shape, stride, padding, dilation)
    work = _work(grad.shape, weight_shape)
    total = np.zeros(weight_shape, grad.dtype)
    for images in _launch_slices(len(x), work):
        total += _weight_gradient_slice(grad[images], x[images], weight_shape, stride, padding, dilation, groups, work)
    return total


def _weight_gradient_slice(grad, x, weight_shape, stride, padding, dilation, groups, work_per_image):
    """Blocks of columns and, where those are few, chunks of pixels, each summed by one job on its own."""
    out_channels, group_channels, *kernel = weight_shape
    rows = group_channels * kernel[0] * kernel[1]
    out_pixels = grad.shape[2] * grad.shape[3]
    pointwise = _is_pointwise(weight_shape, stride, padding)
    row_block = min(rows, 256)
    tile = max(1, min(512, len(x) * out_pixels))
    blocks = groups * -(-rows // row_block)
    chunks = max(1, min(-(-8 // blocks), -(-len(x) * out_pixels // tile)))
    parts = np.zeros((chunks, groups, out_channels // groups, rows), grad.dtype)
    launch(
        _weight_gradient_compiled,
        grad.reshape(*grad.shape[:2], out_pixels),
        _as_one_row(x) if pointwise else x,
        parts,
        tile,
        row_block,
        *((1, out_pixels) if pointwise else grad.shape[2:]),
        *kernel,
        *stride,
        *padding,
        *dilation,
        cost=work_per_image * len(x),
    )
    return parts.sum(0).reshape(weight_shape)


# --- Numba: depthwise, one kernel per channel --------------------------------------------------------------


@jit
def _depthwise_compiled(x, weight, bias, has_bias, y, stride_y, stride_x, pad_y, pad_x,
                        dilation_y, dilation_x):  # fmt: skip
    batch, channels, height, width = x.shape
    out_channels, kernel_height, kernel_width = weight.shape
    out_height, out_width = y.shape[2], y.shape[3]
    for job in prange(batch * out_channels):
        n = job // out_channels
        o = job % out_channels
        c = o // (out_channels // channels)
        for oy in range(out_height):
            for ox in range(out_width):
                y[n, o, oy, ox] = bias[o] if has_bias else 0
            for i in range(kernel_height):
                row = oy * stride_y - pad_y + i * dilation_y
                if row < 0 or row >= height:
                    continue
                for j in range(kernel_width):
                    shift = j * dilation_x - pad_x
                    start = 0 if shift >= 0 else (-shift + stride_x - 1) // stride_x
                    stop = 0 if shift >= width else min(out_width, (width - 1 - shift) // stride_x + 1)
                    factor = weight[o, i, j]
                    for ox in range(start, stop):
                        y[n, o, oy, at(ox)] += factor * x[n, c, row, at(ox * stride_x + shift)]


@jit
def _depthwise_input_gradient_compiled(grad, weight, grad_x, stride_y, stride_x, pad_y, pad_x,
                                       dilation_y, dilation_x):  # fmt: skip
    batch, channels, height, width = grad_x.shape
    out_channels, kernel_height, kernel_width = weight.shape
    out_height, out_width = grad.shape[2], grad.shape[3]
    multiplier = out_channels // channels
    for job in prange(batch * channels):
        n = job // channels
        c = job % channels
        for o in range(c * multiplier, (c + 1) * multiplier):
            for oy in range(out_height):
                for i in range(kernel_height):
                    row = oy * stride_y - pad_y + i * dilation_y
                    if row < 0 or row >= height:
                        continue
                    for j in range(kernel_width):
                        shift = j * dilation_x - pad_x
                        start = 0 if shift >= 0 else (-shift + stride_x - 1) // stride_x
                        stop = 0 if shift >= width else min(out_width, (width - 1 - shift) // stride_x + 1)
                        factor = weight[o, i, j]
                        for ox in range(start, stop):
                            grad_x[n, c, row, at(ox * stride_x + shift)] += factor * grad[n, o, oy, at(ox)]


@jit
def _depthwise_weight_gradient_compiled(grad, x, grad_weight, stride_y, stride_x, pad_y, pad_x,
                                        dilation_y, dilation_x):  # fmt: skip
    batch, channels, height, width = x.shape
    out_channels, kernel_height, kernel_width = grad_weight.shape
    out_height, out_width = grad.shape[2], grad.shape[3]
    for o in prange(out_channels):
        c = o // (out_channels // channels)
        for i in range(kernel_height):
            for j in range(kernel_width):
                shift = j * dilation_x - pad_x
                start = 0 if shift >= 0 else (-shift + stride_x - 1) // stride_x
                stop = 0 if shift >= width else min(out_width, (width - 1 - shift) // stride_x + 1)
                total = 0.0
                for n in range(batch):
                    for oy in range(out_height):
                        row = oy * stride_y - pad_y + i * dilation_y
                        if row < 0 or row >= height:
                            continue
                        for ox in range(start, stop):
                            total += grad[n, o, oy, at(ox)] * x[n, c, row, at(ox * stride_x + shift)]
                grad_weight[o, i, j] = total


def _depthwise(x, weight, bias, y, stride, padding, dilation):
    shift = np.zeros(1, x.dtype) if bias is None else bias
    taps = weight.reshape(weight.shape[0], *weight.shape[2:])
    cost = y.size * taps[0].size * 0.3
    launch(_depthwise_compiled, x, taps, shift, bias is not None, y, *stride, *padding, *dilation, cost=cost)
    return y


def _depthwise_input_gradient(grad, weight, input_shape, stride, padding, dilation):
    grad_x = np.zeros(input_shape, grad.dtype)
    taps = readable(weight).reshape(weight.shape[0], *weight.shape[2:])
    window = (*stride, *padding, *dilation)
    cost = grad.size * taps[0].size * 0.3
    launch(_depthwise_input_gradient_compiled, readable(grad), taps, grad_x, *window, cost=cost)
    return grad_x


def _depthwise_weight_gradient(grad, x, weight_shape, stride, padding, dilation):
    grad_weight = np.zeros((weight_shape[0], *weight_shape[2:]), grad.dtype)
    window = (*stride, *padding, *dilation)
    cost = grad.size * grad_weight[0].size * 0.3
    launch(_depthwise_weight_gradient_compiled, grad, x, grad_weight, *window, cost=cost)
    return grad_weight.reshape(weight_shape)


convolution = Kernel(
    "convolution",
    "convolution",
    loops=_convolution_loops,
    numpy=_convolution_numpy,
    numba=_convolution_numba,
    shapes=lambda x, weight, bias, *window: (_output_shape(x.shape, weight.shape, *window[:3]),),
    builds_on_family=True,
)

convolution_input_gradient = Kernel(
    "convolution_input_gradient",
    "convolution",
    loops=_input_gradient_loops,
    numpy=_input_gradient_numpy,
    numba=_input_gradient_numba,
    shapes=lambda grad, weight, input_shape, *window: (tuple(input_shape),),
    builds_on_family=True,
)

convolution_weight_gradient = Kernel(
    "convolution_weight_gradient",
    "convolution",
    loops=_weight_gradient_loops,
    numpy=_weight_gradient_numpy,
    numba=_weight_gradient_numba,
    shapes=lambda grad, x, weight_shape, *window: (tuple(weight_shape),),
    builds_on_family=True,
)
