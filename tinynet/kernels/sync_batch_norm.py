"""Batch normalisation whose batch lies on several ranks: batch_norm.py's two trips through memory, taken apart.

Between the trips the ranks exchange a few float64 numbers per channel. What runs here is one rank's part.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.batch_norm import gradient_moments, input_gradient, moments
from tinynet.kernels.layout import channels_last, channels_last_empty, rows
from tinynet.kernels.registry import runs_compiled


def _row(x: np.ndarray) -> np.ndarray:
    return rows(channels_last(x)).reshape(1, -1)


def local_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance (C,) of x (N, C, L) in float64; zeros for an empty batch."""
    channels = x.shape[1]
    if not x.size:
        return np.zeros(channels), np.zeros(channels)
    if runs_compiled("batch_norm_train"):
        mean, variance = moments(_row(x), channels)
        return mean[0], variance[0]
    mean = x.mean((0, 2), dtype=np.float64)
    centred = x - mean.reshape(-1, 1)
    return mean, np.einsum("ncl,ncl->c", centred, centred) / (x.shape[0] * x.shape[2])


def moments_of_all(counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance (C,) of the union of batches: counts (R, 1), means and variances (R, C), float64.

    var = Σ n_r·(var_r + (mean_r - mean)²) / n, in which nothing cancels (Chan, Golub and LeVeque 1979).
    """
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return mean, (counts * (variances + (means - mean) ** 2)).sum(0) / total


def local_gradient_sums(grad: np.ndarray, x: np.ndarray, mean: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Sums (2, C) over this batch of grad·normalised x and of grad, in float64; `inverse` is 1/deviation (C,)."""
    if not x.size:
        return np.zeros((2, x.shape[1]))
    if runs_compiled("batch_norm_train_backward"):
        total, product = gradient_moments(_row(grad), _row(x), mean[None].astype(np.float64))
        return np.stack([product[0] * inverse, total[0]])
    centred = x - mean.astype(np.float64).reshape(-1, 1)
    return np.stack([np.einsum("ncl,ncl->c", grad, centred) * inverse, grad.sum((0, 2), dtype=np.float64)])


def input_gradient_of_all(
    grad: np.ndarray, x: np.ndarray, mean: np.ndarray, inverse: np.ndarray, weight: np.ndarray | None,
    means: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Gradient of x (N, C, L): (grad - means[1] - normalised x·means[0])·weight·inverse.

    `means` (2, C) are `local_gradient_sums` added up over all ranks and divided by all their numbers.
    """
    factor = inverse if weight is None else inverse * weight
    slope, shift = factor * inverse * means[0], factor * means[1]
    if x.size and runs_compiled("batch_norm_train_backward"):
        grad_x = channels_last_empty(x.shape, x.dtype)
        coefficients = np.stack((mean, slope, shift, factor))[:, None]
        input_gradient(_row(grad), _row(x), rows(grad_x).reshape(1, -1), coefficients)
        return grad_x
    columns = [vector.astype(x.dtype).reshape(-1, 1) for vector in (mean, slope, shift, factor)]
    return grad * columns[3] - ((x - columns[0]) * columns[1] + columns[2])
