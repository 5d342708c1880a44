"""Batch normalisation over x (N, C, L): every channel to mean 0 and variance 1, then scaled and shifted.

Ioffe and Szegedy 2015; torch.nn.functional.batch_norm. Sums run in float64, so that float32 statistics are
right to their last digits however large a batch is.

What is in cache when. The statistics need all pixels before the first can be normalised, and an activation does
not stay in L2 until then: two trips through memory each way is the least, and there are two.
- Trip 1 adds up both moments at once (forward: x and x²; backward: grad and grad·x), lines of whole pixels
  streaming past one line of float64 sums per moment (4 KB each, in L1). Taking x² apart into variance and mean²
  would cancel; so the mean of a few pixels is subtracted from x before, after which mean² is at most about as
  large as the variance, and nothing is lost. Four lines are added up in registers (in x's precision, which four
  summands do not hurt) before their sum goes to the line in L1: a load and a store per number would be slower
  than memory.
- Trip 2 reads the same lines again with the channels' coefficients in L1 (2 KB each) and writes the result.
- Backward keeps nothing of the size of x but x itself: (x - mean) is recomputed in both trips while the line is
  in registers, which costs nothing beside reading it. Lines and blocks: see elementwise.py.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.elementwise import at, block_lines, fold_line, line_length, scale_shift
from tinynet.kernels.launch import inner, jit, launch, prange, readable, sequence
from tinynet.kernels.layout import channels_last, channels_last_empty, pixels, rows
from tinynet.kernels.registry import Kernel


def _ones_or(weight, channels, dtype):
    return np.ones(channels, dtype) if weight is None else weight


def _zeros_or(bias, channels, dtype):
    return np.zeros(channels, dtype) if bias is None else bias


def _inverse_deviation(variance: np.ndarray, eps: float) -> np.ndarray:
    """1 / sqrt(variance + eps) in float64."""
    return 1.0 / np.sqrt(variance.astype(np.float64) + eps)


# --- the definition ----------------------------------------------------------------------------------------


def _batch_norm_train_loops(x, weight, bias, eps):
    batch, channels, length = x.shape
    mean, variance = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for c in range(channels):
        values = [float(x[n, c, k]) for n in range(batch) for k in range(length)]
        centre = sum(values) / len(values) if values else float("nan")
        spread = sum((v - centre) ** 2 for v in values) / len(values) if values else float("nan")
        mean[c], variance[c] = centre, spread
    return _batch_norm_eval_loops(x, weight, bias, mean, variance, eps), mean, variance


def _batch_norm_eval_loops(x, weight, bias, mean, variance, eps):
    batch, channels, length = x.shape
    y = np.empty_like(x, order="C", subok=False)
    for c in range(channels):
        deviation = (float(variance[c]) + eps) ** 0.5
        scale = 1.0 if weight is None else float(weight[c])
        shift = 0.0 if bias is None else float(bias[c])
        for n in range(batch):
            for k in range(length):
                y[n, c, k] = (float(x[n, c, k]) - float(mean[c])) / deviation * scale + shift
    return y


def _batch_norm_backward_loops(grad, x, weight, mean, variance, eps, training):
    batch, channels, length = x.shape
    grad_x = np.empty_like(x, order="C", subok=False)
    grad_weight, grad_bias = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    for c in range(channels):
        deviation = (float(variance[c]) + eps) ** 0.5
        scale = 1.0 if weight is None else float(weight[c])
        count = batch * length
        sum_grad = sum_grad_normal = 0.0
        for n in range(batch):
            for k in range(length):
                sum_grad += float(grad[n, c, k])
                sum_grad_normal += float(grad[n, c, k]) * (float(x[n, c, k]) - float(mean[c])) / deviation
        grad_weight[c], grad_bias[c] = sum_grad_normal, sum_grad
        for n in range(batch):
            for k in range(length):
                value = float(grad[n, c, k])
                if training:  # the mean and the variance depend on x too
                    normal = (float(x[n, c, k]) - float(mean[c])) / deviation
                    value -= (sum_grad + normal * sum_grad_normal) / count
                grad_x[n, c, k] = value * scale / deviation
    return grad_x, grad_weight, grad_bias


def _batch_norm_train_backward_loops(grad, x, weight, mean, variance, eps):
    return _batch_norm_backward_loops(grad, x, weight, mean, variance, eps, True)


def _batch_norm_eval_backward_loops(grad, x, weight, mean, variance, eps):
    return _batch_norm_backward_loops(grad, x, weight, mean, variance, eps, False)


# --- NumPy -------------------------------------------------------------------------------------------------


def _batch_norm_train_numpy(x, weight, bias, eps):
    """y, mean (C,) and biased variance (C,) of x (N, C, L) in training; weight and bias (C,) or None."""
    count = x.shape[0] * x.shape[2]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = x.sum((0, 2), dtype=np.float64) / np.float64(count)
        centred = x - mean.reshape(-1, 1)
        variance = np.einsum("ncl,ncl->c", centred, centred) / np.float64(count)
    mean, variance = mean.astype(x.dtype), variance.astype(x.dtype)
    return _batch_norm_eval_numpy(x, weight, bias, mean, variance, eps), mean, variance


def _batch_norm_eval_numpy(x, weight, bias, mean, variance, eps):
    """y = (x - mean) / sqrt(variance + eps) · weight + bias for x (N, C, L) with given statistics (C,)."""
    channels = x.shape[1]
    scale = (_inverse_deviation(variance, eps) * _ones_or(weight, channels, x.dtype)).astype(x.dtype)
    y = np.subtract(x, mean.reshape(-1, 1), order="C")
    y *= scale.reshape(-1, 1)
    y += _zeros_or(bias, channels, x.dtype).reshape(-1, 1)
    return y


def _channel_gradients(grad, x, mean, variance, eps):
    """Sum of grad and of grad·normalised x over each channel, in float64."""
    grad_bias = grad.sum((0, 2), dtype=np.float64)
    centred = x - mean.astype(np.float64).reshape(-1, 1)
    grad_weight = np.einsum("ncl,ncl->c", grad, centred) * _inverse_deviation(variance, eps)
    return grad_weight, grad_bias


def _batch_norm_train_backward_numpy(grad, x, weight, mean, variance, eps):
    """Gradients of x (N, C, L), weight (C,) and bias (C,) where the statistics came from x itself."""
    grad_weight, grad_bias = _channel_gradients(grad, x, mean, variance, eps)
    count = max(1, x.shape[0] * x.shape[2])
    inverse = _inverse_deviation(variance, eps)
    normal_factor = (inverse * grad_weight / count).astype(x.dtype).reshape(-1, 1)
    grad_x = np.subtract(grad, (grad_bias / count).astype(x.dtype).reshape(-1, 1), order="C")
    grad_x -= (x - mean.reshape(-1, 1)) * normal_factor
    grad_x *= (inverse * _ones_or(weight, x.shape[1], x.dtype)).astype(x.dtype).reshape(-1, 1)
    return grad_x, grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)


def _batch_norm_eval_backward_numpy(grad, x, weight, mean, variance, eps):
    """Gradients of x (N, C, L), weight (C,) and bias (C,) where the statistics are constants."""
    grad_weight, grad_bias = _channel_gradients(grad, x, mean, variance, eps)
    scale = _inverse_deviation(variance, eps) * _ones_or(weight, x.shape[1], x.dtype)
    grad_x = np.multiply(grad, scale.astype(x.dtype).reshape(-1, 1), order="C")
    return grad_x, grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)


# --- Numba -------------------------------------------------------------------------------------------------


# The compiled kernels take x as (sets, numbers): pixel after pixel of every set that shares its statistics. Batch
# norm has one set, group norm (group_norm.py) one per image. What every channel has comes as (sets, C) in float64.


@inner
def _lines_of(values, line, like):
    """(sets, C) as lines of the dtype of `like`: the channels' numbers for pixel after pixel."""
    sets, channels = values.shape
    lines = np.empty((sets, line), like.dtype)
    for s in range(sets):
        for k in range(line):
            lines[s, k] = values[s, k % channels]
    return lines


@inner
def _sample_means(x, means):
    """means (sets, C) of some 16 pixels, as far as they are finite."""
    sets, channels = means.shape
    pixels_in_all = x.shape[1] // channels
    step = max(1, pixels_in_all // 16)
    for s in range(sets):
        for c in range(channels):
            means[s, c] = 0
        for pixel in range(0, pixels_in_all, step):
            for c in range(channels):
                means[s, c] += x[s, pixel * channels + c]
        for c in range(channels):
            mean = x.dtype.type(means[s, c] / ((pixels_in_all + step - 1) // step))
            means[s, c] = mean if np.isfinite(mean) else 0


@inner
def _fold_blocks(partial, totals):
    """totals (2, sets, C) = the sums of all blocks (sets, blocks, 2, C)."""
    sets, blocks, kinds, channels = partial.shape
    for s in range(sets):
        for kind in range(kinds):
            for c in range(channels):
                totals[kind, s, c] = 0
            for block in range(blocks):
                for c in range(channels):
                    totals[kind, s, c] += partial[s, block, kind, c]


@jit
def _moments_compiled(x, line, lines, partial, moments):
    sets, blocks = partial.shape[:2]
    size, channels = x.shape[1], partial.shape[3]
    mean, variance = moments[0], moments[1]
    means = np.empty((sets, channels))
    _sample_means(x, means)
    centre = _lines_of(means, line, x)
    for job in prange(sets * blocks):
        s = job // blocks
        block = job % blocks
        sums, squares = np.zeros(line), np.zeros(line)
        first = block * lines * line
        stop = min(first + lines * line, size)
        while first + 4 * line <= stop:
            for k in range(line):
                a = x[s, at(first + k)] - centre[s, k]
                b = x[s, at(first + line + k)] - centre[s, k]
                c = x[s, at(first + 2 * line + k)] - centre[s, k]
                d = x[s, at(first + 3 * line + k)] - centre[s, k]
                sums[k] += (a + b) + (c + d)
                squares[k] += (a * a + b * b) + (c * c + d * d)
            first += 4 * line
        while first < stop:
            for k in range(min(line, stop - first)):
                a = x[s, at(first + k)] - centre[s, k]
                sums[k] += a
                squares[k] += a * a
            first += line
        fold_line(sums, partial[s, block, 0])
        fold_line(squares, partial[s, block, 1])
    _fold_blocks(partial, moments)
    count = size // channels
    for s in range(sets):
        for c in range(channels):
            offset = mean[s, c] / count
            spread = variance[s, c] / count - offset * offset
            mean[s, c] = means[s, c] + offset
            variance[s, c] = 0 if spread < 0 else spread  # a NaN stays


@inner
def _normalise_lines(x, mean, scale, shift, first, y):
    """The four lines from number `first` of a row x, all that there are."""
    line, size = len(mean), len(x)
    if first + 4 * line <= size:
        for k in range(line):
            y[at(first + k)] = (x[at(first + k)] - mean[k]) * scale[k] + shift[k]
            second = at(first + line + k)
            y[second] = (x[second] - mean[k]) * scale[k] + shift[k]
            third = at(first + 2 * line + k)
            y[third] = (x[third] - mean[k]) * scale[k] + shift[k]
            fourth = at(first + 3 * line + k)
            y[fourth] = (x[fourth] - mean[k]) * scale[k] + shift[k]
    else:
        for start in range(first, size, line):
            for k in range(min(line, size - start)):
                y[at(start + k)] = (x[at(start + k)] - mean[k]) * scale[k] + shift[k]


@jit
def _normalise_compiled(x, coefficients, line, y):
    sets = len(x)
    mean, scale = _lines_of(coefficients[0], line, x), _lines_of(coefficients[1], line, x)
    shift = _lines_of(coefficients[2], line, x)
    blocks = (x.shape[1] + 4 * line - 1) // (4 * line)
    for job in prange(sets * blocks):
        s = job // blocks
        _normalise_lines(x[s], mean[s], scale[s], shift[s], job % blocks * 4 * line, y[s])


@jit
def _evaluate_compiled(x, mean, variance, weight, bias, eps, line, y):
    """As above for one set, from the channels' numbers: for small images to find the lines is half of the work."""
    channels = len(mean)
    means, scale, shift = np.empty(line, x.dtype), np.empty(line, x.dtype), np.empty(line, x.dtype)
    for c in range(channels):
        factor = 1 / np.sqrt(np.float64(variance[c]) + eps)
        means[c] = mean[c]
        scale[c] = factor if len(weight) == 0 else factor * weight[c]
        shift[c] = 0 if len(bias) == 0 else bias[c]
    for k in range(channels, line):
        means[k], scale[k], shift[k] = means[k - channels], scale[k - channels], shift[k - channels]
    blocks = (len(x) + 4 * line - 1) // (4 * line)
    for job in prange(blocks):
        _normalise_lines(x, means, scale, shift, job * 4 * line, y)


@sequence
def _train_compiled(x, weight, bias, eps, line, lines, partial, y, statistics):
    """Both trips forward over one set (1, numbers); `statistics` (2, C) are mean and biased variance."""
    channels = partial.shape[3]
    moments = np.empty((2, 1, channels))
    _moments_compiled(x, line, lines, partial, moments)
    for c in range(channels):
        statistics[0, c], statistics[1, c] = moments[0, 0, c], moments[1, 0, c]
    _evaluate_compiled(x[0], statistics[0], statistics[1], weight, bias, eps, line, y)


@jit
def _gradient_moments_compiled(grad, x, means, line, lines, partial, moments):
    sets, blocks = partial.shape[:2]
    size = x.shape[1]
    mean = _lines_of(means, line, x)
    for job in prange(sets * blocks):
        s = job // blocks
        block = job % blocks
        sums, products = np.zeros(line), np.zeros(line)
        first = block * lines * line
        stop = min(first + lines * line, size)
        while first + 4 * line <= stop:
            for k in range(line):
                a, b = grad[s, at(first + k)], grad[s, at(first + line + k)]
                c, d = grad[s, at(first + 2 * line + k)], grad[s, at(first + 3 * line + k)]
                sums[k] += (a + b) + (c + d)
                a *= x[s, at(first + k)] - mean[s, k]
                b *= x[s, at(first + line + k)] - mean[s, k]
                c *= x[s, at(first + 2 * line + k)] - mean[s, k]
                d *= x[s, at(first + 3 * line + k)] - mean[s, k]
                products[k] += (a + b) + (c + d)
            first += 4 * line
        while first < stop:
            for k in range(min(line, stop - first)):
                a = grad[s, at(first + k)]
                sums[k] += a
                products[k] += a * (x[s, at(first + k)] - mean[s, k])
            first += line
        fold_line(sums, partial[s, block, 0])
        fold_line(products, partial[s, block, 1])
    _fold_blocks(partial, moments)


@jit
def _input_gradient_compiled(grad, x, coefficients, line, grad_x):
    sets, size = x.shape
    mean, slope = _lines_of(coefficients[0], line, x), _lines_of(coefficients[1], line, x)
    shift, factor = _lines_of(coefficients[2], line, x), _lines_of(coefficients[3], line, x)
    blocks = (size + 2 * line - 1) // (2 * line)
    for job in prange(sets * blocks):
        s = job // blocks
        first = job % blocks * 2 * line
        if first + 2 * line <= size:
            for k in range(line):
                a = (x[s, at(first + k)] - mean[s, k]) * slope[s, k] + shift[s, k]
                b = (x[s, at(first + line + k)] - mean[s, k]) * slope[s, k] + shift[s, k]
                grad_x[s, at(first + k)] = grad[s, at(first + k)] * factor[s, k] - a
                grad_x[s, at(first + line + k)] = grad[s, at(first + line + k)] * factor[s, k] - b
        else:
            for start in range(first, size, line):
                for k in range(min(line, size - start)):
                    a = (x[s, at(start + k)] - mean[s, k]) * slope[s, k] + shift[s, k]
                    grad_x[s, at(start + k)] = grad[s, at(start + k)] * factor[s, k] - a


@sequence
def _train_backward_compiled(grad, x, weight, mean, variance, eps, line, lines, partial, grad_x, gradients):
    """Both trips backward over one set; `gradients` (2, C) are those of weight and bias."""
    channels, count = len(mean), x.size // len(mean)
    means, moments, coefficients = np.empty((1, channels)), np.empty((2, 1, channels)), np.empty((4, 1, channels))
    for c in range(channels):
        means[0, c] = mean[c]
    _gradient_moments_compiled(grad, x, means, line, lines, partial, moments)
    for c in range(channels):
        inverse = 1 / np.sqrt(np.float64(variance[c]) + eps)
        factor = inverse if len(weight) == 0 else inverse * weight[c]
        grad_bias, grad_weight = moments[0, 0, c], moments[1, 0, c] * inverse
        gradients[0, c], gradients[1, c] = grad_weight, grad_bias
        coefficients[0, 0, c] = mean[c]
        coefficients[1, 0, c] = factor / count * inverse * grad_weight
        coefficients[2, 0, c] = factor / count * grad_bias
        coefficients[3, 0, c] = factor
    _input_gradient_compiled(grad, x, coefficients, line, grad_x)


def moments(x: np.ndarray, channels: int) -> np.ndarray:
    """Mean and biased variance (2, sets, C) of the rows of pixels x (sets, numbers), in float64."""
    (sets, size), length = x.shape, line_length(x.shape[1], channels)
    each, blocks = block_lines(size, length)
    partial, found = np.empty((sets, blocks, 2, channels)), np.empty((2, sets, channels))
    launch(_moments_compiled, x, length, each, partial, found, cost=0.1 * x.size)
    return found


def normalise(x: np.ndarray, y: np.ndarray, coefficients: np.ndarray) -> None:
    """y = (x - mean)·scale + shift for x, y (sets, numbers); `coefficients` (3, sets, C) are mean, scale, shift."""
    length = line_length(x.shape[1], coefficients.shape[2])
    launch(_normalise_compiled, x, coefficients, length, y, cost=0.15 * x.size)


def gradient_moments(grad: np.ndarray, x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Sums (2, sets, C) of grad and of grad·(x - mean) for grad, x (sets, numbers) and mean (sets, C), in float64."""
    (sets, size), channels = x.shape, mean.shape[1]
    length = line_length(size, channels)
    each, blocks = block_lines(size, length)
    partial, found = np.empty((sets, blocks, 2, channels)), np.empty((2, sets, channels))
    launch(_gradient_moments_compiled, grad, x, mean, length, each, partial, found, cost=0.15 * x.size)
    return found


def input_gradient(grad: np.ndarray, x: np.ndarray, grad_x: np.ndarray, coefficients: np.ndarray) -> None:
    """grad_x = grad·factor - (x - mean)·slope - shift; `coefficients` (4, sets, C) are mean, slope, shift, factor."""
    length = line_length(x.shape[1], coefficients.shape[2])
    launch(_input_gradient_compiled, grad, x, coefficients, length, grad_x, cost=0.25 * x.size)


def _one_set(x: np.ndarray) -> np.ndarray:
    return rows(x).reshape(1, -1)


def _or_nothing(vector: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    return np.empty(0, dtype) if vector is None else readable(vector)


def _batch_norm_train_numba(x, weight, bias, eps):
    if not x.size:
        return _batch_norm_train_numpy(x, weight, bias, eps)
    y, statistics = channels_last_empty(x.shape, x.dtype), np.empty((2, x.shape[1]), x.dtype)
    line, each, partial = _trip(x)
    launch(_train_compiled, _one_set(x), _or_nothing(weight, x.dtype), _or_nothing(bias, x.dtype), eps, line, each,
           partial, pixels(y).reshape(-1), statistics, cost=0.25 * x.size)  # fmt: skip
    return y, statistics[0], statistics[1]


def _trip(x: np.ndarray) -> tuple[int, int, np.ndarray]:
    """A line's length, a block's lines and room for the sums of all blocks, of one set x (N, C, L)."""
    line = line_length(x.size, x.shape[1])
    each, blocks = block_lines(x.size, line)
    return line, each, np.empty((1, blocks, 2, x.shape[1]))


def _batch_norm_eval_numba(x, weight, bias, mean, variance, eps):
    y = channels_last_empty(x.shape, x.dtype)
    if x.size:
        line = line_length(x.size, x.shape[1])
        launch(_evaluate_compiled, pixels(x).reshape(-1), readable(mean), readable(variance),
               _or_nothing(weight, x.dtype), _or_nothing(bias, x.dtype), eps, line, pixels(y).reshape(-1),
               cost=0.15 * x.size)  # fmt: skip
    return y


def _channel_gradients_numba(grad, x, mean, variance, eps):
    """Sum of grad·normalised x and of grad over each channel, in float64."""
    grad_bias, product = gradient_moments(_one_set(grad), _one_set(x), mean[None].astype(np.float64))[:, 0]
    return product * _inverse_deviation(variance, eps), grad_bias


def _batch_norm_train_backward_numba(grad, x, weight, mean, variance, eps):
    if not x.size:
        return _batch_norm_train_backward_numpy(grad, x, weight, mean, variance, eps)
    grad_x, gradients = channels_last_empty(x.shape, x.dtype), np.empty((2, x.shape[1]), x.dtype)
    line, each, partial = _trip(x)
    launch(_train_backward_compiled, _one_set(grad), _one_set(x), _or_nothing(weight, x.dtype), readable(mean),
           readable(variance), eps, line, each, partial, _one_set(grad_x), gradients, cost=0.4 * x.size)  # fmt: skip
    return grad_x, gradients[0], gradients[1]


def _batch_norm_eval_backward_numba(grad, x, weight, mean, variance, eps):
    if not x.size:
        return _batch_norm_eval_backward_numpy(grad, x, weight, mean, variance, eps)
    grad = channels_last(grad)
    grad_weight, grad_bias = _channel_gradients_numba(grad, x, mean, variance, eps)
    factor = (_inverse_deviation(variance, eps) * _ones_or(weight, x.shape[1], x.dtype)).astype(x.dtype)
    grad_x = scale_shift.implementations["numba"](grad, factor, np.zeros_like(factor), None, False)
    return grad_x, grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)


def _train_shapes(x, weight, bias, eps):
    return x.shape, x.shape[1:2], x.shape[1:2]


def _backward_shapes(grad, x, *rest):
    return x.shape, x.shape[1:2], x.shape[1:2]


batch_norm_train = Kernel(
    "batch_norm_train",
    "batch_norm",
    loops=_batch_norm_train_loops,
    numpy=_batch_norm_train_numpy,
    numba=_batch_norm_train_numba,
    shapes=_train_shapes,
)

batch_norm_train_backward = Kernel(
    "batch_norm_train_backward",
    "batch_norm",
    loops=_batch_norm_train_backward_loops,
    numpy=_batch_norm_train_backward_numpy,
    numba=_batch_norm_train_backward_numba,
    shapes=_backward_shapes,
)

batch_norm_eval = Kernel(
    "batch_norm_eval",
    "batch_norm",
    loops=_batch_norm_eval_loops,
    numpy=_batch_norm_eval_numpy,
    numba=_batch_norm_eval_numba,
    shapes=lambda x, *rest: (x.shape,),
)

batch_norm_eval_backward = Kernel(
    "batch_norm_eval_backward",
    "batch_norm",
    loops=_batch_norm_eval_backward_loops,
    numpy=_batch_norm_eval_backward_numpy,
    numba=_batch_norm_eval_backward_numba,
    shapes=_backward_shapes,
)
