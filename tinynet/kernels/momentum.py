"""One step of gradient descent with momentum, compiled: parameter, gradient and buffer pass through the core once.

NumPy needs six passes. Over blocks that stay in the cache they cost no traffic to memory, but still six times the
instructions; here each number is loaded, used for everything and stored.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.launch import jit, launch, prange, readable, usable_in_this_process
from tinynet.kernels.registry import current_backend

_LARGE = 1 << 14  # elements; below, a launch costs more than the passes
_BLOCKS = 16  # jobs that the threads share


def can_descend(parameter: np.ndarray, gradient: np.ndarray, buffer: np.ndarray) -> bool:
    """Whether `descend` takes these arrays, and is the faster way."""
    return (
        parameter.size >= _LARGE
        and parameter.dtype in (np.float32, np.float64)
        and gradient.dtype == buffer.dtype == parameter.dtype
        and all(array.flags.c_contiguous and array.flags.aligned for array in (parameter, gradient, buffer))
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
