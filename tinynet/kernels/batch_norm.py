"""Batch normalisation over x (N, C, L): every channel to mean 0 and variance 1, then scaled and shifted.

Ioffe and Szegedy 2015; torch.nn.functional.batch_norm. Sums run in float64, so that float32 statistics are
right to their last digits however large a batch is.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.elementwise import channel_block, scale_shift
from tinynet.kernels.launch import jit, launch, prange, readable
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


@jit
def _train_compiled(x, weight, bias, eps, y, mean, variance, scale, block):
    batch, channels, length = x.shape
    count = batch * length
    for job in prange((channels + block - 1) // block):
        for c in range(job * block, min((job + 1) * block, channels)):
            total = 0.0
            for n in range(batch):
                for k in range(length):
                    total += x[n, c, k]
            centre = total / count
            spread = 0.0
            for n in range(batch):
                for k in range(length):
                    deviation = x[n, c, k] - centre
                    spread += deviation * deviation
            mean[c] = centre
            variance[c] = spread / count
            scale[c] = weight[c] / np.sqrt(np.float64(variance[c]) + eps)
            # read back: these have x's precision, as all of the last loop then has
            middle = mean[c]
            factor = scale[c]
            shift = bias[c]
            for n in range(batch):
                for k in range(length):
                    y[n, c, k] = (x[n, c, k] - middle) * factor + shift


@jit
def _backward_compiled(grad, x, weight, mean, variance, eps, training, grad_x, grad_weight, grad_bias,
                       coefficients, block):  # fmt: skip
    batch, channels, length = x.shape
    count = batch * length
    for job in prange((channels + block - 1) // block):
        for c in range(job * block, min((job + 1) * block, channels)):
            inverse = 1.0 / np.sqrt(np.float64(variance[c]) + eps)
            middle = np.float64(mean[c])
            total = 0.0
            product = 0.0
            for n in range(batch):
                for k in range(length):
                    total += grad[n, c, k]
                    product += grad[n, c, k] * (x[n, c, k] - middle)
            grad_bias[c] = total
            grad_weight[c] = product * inverse
            coefficients[c, 0] = inverse * weight[c]
            coefficients[c, 1] = total / count
            coefficients[c, 2] = product * inverse * inverse / count
            factor = coefficients[c, 0]
            mean_grad = coefficients[c, 1]
            slope = coefficients[c, 2]
            centre = mean[c]
            for n in range(batch):
                if training:
                    for k in range(length):
                        grad_x[n, c, k] = (grad[n, c, k] - mean_grad - (x[n, c, k] - centre) * slope) * factor
                else:
                    for k in range(length):
                        grad_x[n, c, k] = grad[n, c, k] * factor


def _batch_norm_train_numba(x, weight, bias, eps):
    if not x.size:
        return _batch_norm_train_numpy(x, weight, bias, eps)
    channels = x.shape[1]
    y = np.empty(x.shape, x.dtype)
    mean, variance, scale = np.empty((3, channels), x.dtype)
    weight = readable(_ones_or(weight, channels, x.dtype))
    bias = readable(_zeros_or(bias, channels, x.dtype))
    block = channel_block(x.shape[2])
    launch(_train_compiled, readable(x), weight, bias, eps, y, mean, variance, scale, block, cost=0.7 * x.size)
    return y, mean.copy(), variance.copy()


def _batch_norm_eval_numba(x, weight, bias, mean, variance, eps):
    channels = x.shape[1]
    scale = _inverse_deviation(variance, eps) * _ones_or(weight, channels, x.dtype)
    shift = _zeros_or(bias, channels, x.dtype) - mean.astype(np.float64) * scale
    run = scale_shift.implementations["numba"]
    return run(x, scale.astype(x.dtype), shift.astype(x.dtype), None, False)


def _backward_numba(grad, x, weight, mean, variance, eps, training):
    channels = x.shape[1]
    grad_x = np.empty(x.shape, x.dtype)
    grad_weight, grad_bias = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    if x.size:
        arrays = (readable(array) for array in (grad, x, _ones_or(weight, channels, x.dtype), mean, variance))
        results = grad_x, grad_weight, grad_bias, np.empty((channels, 3), x.dtype)
        block = channel_block(x.shape[2])
        launch(_backward_compiled, *arrays, eps, training, *results, block, cost=0.9 * x.size)
    return grad_x, grad_weight, grad_bias


def _batch_norm_train_backward_numba(grad, x, weight, mean, variance, eps):
    return _backward_numba(grad, x, weight, mean, variance, eps, True)


def _batch_norm_eval_backward_numba(grad, x, weight, mean, variance, eps):
    return _backward_numba(grad, x, weight, mean, variance, eps, False)


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
