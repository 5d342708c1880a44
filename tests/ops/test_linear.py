"""Matrix products: what they refuse, and what happens at the edges."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tinynet.errors import DtypeError, ShapeError

functional = tinynet.nn.functional


@pytest.mark.parametrize(
    "first, second",
    [((2, 3), (4, 5)), ((3,), (4,)), ((2, 3), (4,)), ((3,), (4, 2)), ((2, 4, 3), (3, 3, 2)), ((), (3,))],
    ids=str,
)
def test_matmul_names_both_shapes(first, second) -> None:
    with pytest.raises(ShapeError) as caught:
        tinynet.ones(*first) @ tinynet.ones(*second)
    assert str(list(first)) in str(caught.value) and str(list(second)) in str(caught.value)


def test_matmul_does_not_mix_dtypes() -> None:
    with pytest.raises(DtypeError, match=r"float32.*float64"):
        tinynet.ones(2, 2) @ tinynet.ones(2, 2).double()


def test_linear_names_the_sizes() -> None:
    with pytest.raises(ShapeError, match=r"4.*\[2, 3\]|\[2, 3\].*4"):
        functional.linear(tinynet.ones(2, 3), tinynet.ones(5, 4))
    with pytest.raises(ShapeError, match=r"5.*4"):
        functional.linear(tinynet.ones(2, 4), tinynet.ones(5, 4), tinynet.ones(4))
    with pytest.raises(DtypeError, match=r"int64"):
        functional.linear(tinynet.ones(2, 4).long(), tinynet.ones(5, 4))


def test_a_sum_over_nothing_is_zero() -> None:
    x = tinynet.zeros(3, 0, requires_grad=True)
    y = x @ tinynet.zeros(0, 2)
    assert y.tolist() == [[0.0, 0.0]] * 3
    y.sum().backward()
    assert x.grad.shape == (3, 0)


def test_a_batch_of_0_has_zero_gradients() -> None:
    layer = tinynet.nn.Linear(4, 3)
    layer(tinynet.zeros(0, 4)).sum().backward()
    assert not layer.weight.grad.any() and not layer.bias.grad.any()


def test_only_what_needs_a_gradient_gets_one() -> None:
    x, w = tinynet.ones(2, 3), tinynet.ones(4, 3, requires_grad=True)
    functional.linear(x, w).sum().backward()
    assert x.grad is None and w.grad.shape == (4, 3)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows, inner, columns", [(1, 1, 1), (7, 300, 5), (129, 65, 33), (2, 3, 1000), (300, 2, 3)])
def test_products_of_every_proportion(backend: str, dtype: str, rows: int, inner: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, inner)).astype(dtype), rng.standard_normal((inner, columns)).astype(dtype)
    expected = (a.astype(np.longdouble) @ b.astype(np.longdouble)).astype(dtype)
    with tinynet.kernels.backend(backend):
        product = tinynet.from_numpy(a) @ tinynet.from_numpy(b)
        transposed = tinynet.from_numpy(np.ascontiguousarray(a.T)).T @ tinynet.from_numpy(np.asfortranarray(b))
    assert_close(product, expected)
    assert_close(transposed, expected)
