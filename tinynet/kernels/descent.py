"""One step of gradient descent, compiled: parameter, gradient and buffers pass through the core once.

NumPy needs six passes for momentum and twelve for Adam. Over blocks that stay in the cache they cost no traffic to
memory, but still as many times the instructions; here each number is loaded, used for everything and stored.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.launch import jit, launch, prange, readable, usable_in_this_process
from tinynet.kernels.registry import current_backend

_LARGE = 1 << 12  # elements; below, a launch costs more than the passes
_BLOCKS = 16  # jobs that the threads share


def can_descend(parameter: np.ndarray, *others: np.ndarray) -> bool:
    """Whether the steps below take these arrays, gradient and buffers the others, and are the faster way."""
    return (
        parameter.size >= _LARGE
        and parameter.dtype in (np.float32, np.float64)
        and all(array.dtype == parameter.dtype for array in others)
        and all(array.flags.c_contiguous and array.flags.aligned for array in (parameter, *others))
        and current_backend() == "numba"
        and usable_in_this_process()
    )


def descend(parameter, gradient, buffer, lr: float, momentum: float, share: float, decay: float, nesterov: bool):
    """buffer = momentum · buffer + share · g with g = gradient + decay · parameter; parameter -= lr · buffer, or
    with `nesterov` lr · (g + momentum · buffer). All in place.
    """
    factors = np.array([lr, momentum, share, decay], parameter.dtype)
    rows = parameter.reshape(-1), readable(gradient).reshape(-1), buffer.reshape(-1)
    launch(_descend_compiled, *rows, factors, decay != 0, nesterov, _BLOCKS, cost=0.7 * parameter.size)


@jit
def _descend_compiled(parameter, gradient, buffer, factors, decays, nesterov, blocks):
    lr, momentum, share, decay = factors[0], factors[1], factors[2], factors[3]
    for block in prange(blocks):
        here = slice(block * parameter.size // blocks, (block + 1) * parameter.size // blocks)
        p, g, b = parameter[here], gradient[here], buffer[here]
        for k in range(p.size):
            update = g[k] + decay * p[k] if decays else g[k]
            b[k] = momentum * b[k] + share * update
            p[k] -= lr * (update + momentum * b[k] if nesterov else b[k])


def descend_adaptively(parameter, gradient, mean, square, lr: float, betas: tuple[float, float], step: int, eps: float,
                       decay: float, shrink: float):  # fmt: skip
    """Adam's step number `step`, in place, after parameter *= shrink and with g = gradient + decay · parameter:

    mean += (1 - beta1)·(g - mean); square = beta2·square + (1 - beta2)·g²;
    parameter -= lr/(1 - beta1^step) · mean / (sqrt(square)/sqrt(1 - beta2^step) + eps).
    """
    share, keep = 1 - betas[0], betas[1]
    root = (1 - keep**step) ** 0.5
    factors = np.array([lr / (1 - betas[0] ** step), share, keep, 1 - keep, root, eps, decay, shrink], parameter.dtype)
    rows = parameter.reshape(-1), readable(gradient).reshape(-1), mean.reshape(-1), square.reshape(-1)
    launch(_descend_adaptively_compiled, *rows, factors, decay != 0, _BLOCKS, cost=2.0 * parameter.size)


@jit
def _descend_adaptively_compiled(parameter, gradient, mean, square, factors, decays, blocks):
    rate, share, keep, rest = factors[0], factors[1], factors[2], factors[3]
    root, eps, decay, shrink = factors[4], factors[5], factors[6], factors[7]
    for block in prange(blocks):
        here = slice(block * parameter.size // blocks, (block + 1) * parameter.size // blocks)
        p, g, m, s = parameter[here], gradient[here], mean[here], square[here]
        for k in range(p.size):
            value = p[k] * shrink
            slope = g[k] + decay * value if decays else g[k]
            m[k] += share * (slope - m[k])
            s[k] = keep * s[k] + rest * (slope * slope)
            p[k] = value - rate * (m[k] / (np.sqrt(s[k]) / root + eps))
