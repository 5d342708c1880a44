"""The product of two matrices: a 1x1 convolution whose pixels are the rows of the first.

a (M, K) is an image of M pixels with K channels, b (K, N) the weight. The same register tile (tile.py) multiplies
both, and what is in which cache is as told in indirect.py. BLAS is left for products too small to divide.
"""

from __future__ import annotations

import functools

import numpy as np

from tinynet.kernels.indirect import Plan, Walk, make_plan, run
from tinynet.kernels.launch import get_num_threads, product, readable
from tinynet.kernels.packing import Blocks
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
_SMALL = 1 << 20


@functools.lru_cache(maxsize=256)
def _plan(rows: int, inner: int, columns: int, transposed: bool, dtype: np.dtype, threads: int) -> Plan:
    """`transposed` if b's columns, not its rows, are contiguous; `threads` is part of the key only."""
    strides = (inner, 1) if transposed else (1, columns)
    here = np.zeros(1, np.int64)
    walk = Walk(1, rows, (1, 1), here, here, here, (1, 1), (0, 0))
    blocks = Blocks(1, 1, columns, inner, *strides, inner * columns)
    return make_plan(walk, blocks, 1, (1, rows), (1, rows), False, dtype)


def _matrix_product_numba(a, b):
    if a.shape[0] * a.shape[1] * b.shape[1] < _SMALL:
        return product(a, b)
    transposed = b.T.flags.c_contiguous and not b.flags.c_contiguous
    weight = readable(b.T if transposed else b).reshape(-1)
    plan = _plan(a.shape[0], a.shape[1], b.shape[1], transposed, a.dtype, get_num_threads())
    c = np.empty((a.shape[0], b.shape[1]), a.dtype)
    run(plan, readable(a)[None, None], weight, None, None, None, False, c[None, None])
    return c


matrix_product = Kernel(
    "matrix_product",
    "linear",
    loops=_matrix_product_loops,
    numpy=_matrix_product_numpy,
    numba=_matrix_product_numba,
    shapes=lambda a, b: ((a.shape[0], b.shape[1]),),
)
