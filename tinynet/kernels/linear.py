"""The product of two matrices, in row blocks that are fixed by its shape."""

from __future__ import annotations

import numpy as np

from tinynet.kernels.launch import jit, launch, prange, product, readable
from tinynet.kernels.registry import Kernel


def _matrix_product_loops(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


def _matrix_product_numpy(a, b):
    """a (M, K) times b (K, N) -> (M, N)."""
    return product(a, b)


# Below this many multiplications one BLAS call is over before a second thread has woken up.
_SMALL = 1 << 22


@jit
def _products_compiled(a, b, bias, has_bias, c, block):
    batch, groups, rows = c.shape[0], c.shape[1], c.shape[2]
    blocks = (rows + block - 1) // block
    for job in prange(batch * groups * blocks):
        n = job // (groups * blocks)
        g = job // blocks % groups
        first = job % blocks * block
        last = min(first + block, rows)
        target = c[n, g, first:last]
        np.dot(a[g, first:last], b[n, g], target)
        if has_bias:
            for i in range(target.shape[0]):
                shift = bias[g, first + i]
                for j in range(target.shape[1]):
                    target[i, j] += shift


def grouped_products(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, c: np.ndarray) -> None:
    """c[n, g] = a[g]·b[n, g] + bias[g]: a (G, M, K), b (N, G, K, P), bias (G, M) or None, c (N, G, M, P).

    c is contiguous, and no size is 0.
    """
    pieces = -(-8 // (c.shape[0] * c.shape[1]))
    block = max(32, -(-c.shape[2] // pieces))
    shift = np.zeros((1, 1), a.dtype) if bias is None else readable(bias)
    cost = c.size * a.shape[2] / 40
    launch(_products_compiled, readable(a), readable(b), shift, bias is not None, c, block, cost=cost)


def _copies(a: np.ndarray, b: np.ndarray) -> int:
    """Elements to copy before a's row blocks can be multiplied with b; few rows are as bad as copies."""
    few_rows = b.size if a.shape[0] < 64 else 0
    return (not a.flags.c_contiguous) * a.size + (not b.flags.c_contiguous) * b.size + few_rows


def _matrix_product_numba(a, b):
    if a.shape[0] * a.shape[1] * b.shape[1] < _SMALL:
        return product(a, b)
    if _copies(a, b) <= _copies(b.T, a.T) + a.shape[0] * b.shape[1]:
        return _in_row_blocks(a, b)
    return np.ascontiguousarray(_in_row_blocks(b.T, a.T).T)


def _in_row_blocks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    c = np.empty((a.shape[0], b.shape[1]), a.dtype)
    grouped_products(a[None], b[None, None], None, c[None, None])
    return c


matrix_product = Kernel(
    "matrix_product",
    "linear",
    loops=_matrix_product_loops,
    numpy=_matrix_product_numpy,
    numba=_matrix_product_numba,
    shapes=lambda a, b: ((a.shape[0], b.shape[1]),),
)
