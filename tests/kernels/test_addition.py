"""Sums in one memory order: NumPy's values to the bit, and the order that the next kernel wants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tinynet.kernels.addition import add, add_into
from tinynet.kernels.layout import axis_order

SHAPE = (2, 16, 12, 13)  # more elements than the size below which nothing is rearranged


def arrays(shape=SHAPE) -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    last = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)
    return {
        "contiguous": values,
        "channels last": last,
        "width last but one": np.ascontiguousarray(values.swapaxes(2, 3)).swapaxes(2, 3),
        "with gaps": wide[..., ::2],
        "reversed": values[::-1, :, ::-1],
        "expanded": np.broadcast_to(values[:, :1], shape),
        "a channel each": values[:1, :, :1, :1],
        "float64": values.astype(np.float64),
    }


@pytest.mark.parametrize("first, second", list(itertools.product(arrays(), arrays())))
def test_sums_are_numpys(first, second):
    a, b = arrays()[first], arrays()[second]
    before = a.copy(), b.copy()
    np.testing.assert_array_equal(add(a, b), a + b)
    assert add(a, b).dtype == (a + b).dtype
    np.testing.assert_array_equal(a, before[0])
    if a.shape == SHAPE and a.flags.writeable and a.dtype >= b.dtype:
        assert add_into(a, b) is a
        np.testing.assert_array_equal(a, before[0] + before[1])
    np.testing.assert_array_equal(b, before[1])


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_of_the_activation_wins(turned):
    pair = arrays()["contiguous"], arrays()["channels last"]
    assert axis_order(add(*(pair[::-1] if turned else pair))) == [0, 2, 3, 1]


def test_small_and_empty():
    assert add(np.float32(1) * np.ones(()), np.ones(())) == 2
    assert add(np.ones((0, 3, 4, 4)), np.ones((0, 3, 4, 4))).shape == (0, 3, 4, 4)
