"""Activations, softmax and dropout: extreme values, what is kept for backward, random shapes against torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tests.ops.against_torch import bounded, compare
from tests.reference.cases import Input, normal
from tinynet.nn import functional as F

NAN, INF = float("nan"), float("inf")
FUNCTIONS = ["relu", "relu6", "hardtanh", "sigmoid", "tanh"]
shapes = st.lists(st.integers(0, 4), max_size=4)


@pytest.mark.torch
@bounded
@given(st.sampled_from(FUNCTIONS), shapes, st.sampled_from(["float32", "float64"]))
def test_any_shape(name, shape, dtype):
    compare(lambda lib, F, x: getattr(F, name)(x), normal(*shape, scale=4.0), dtype=dtype)


@pytest.mark.torch
@bounded
@given(st.sampled_from(["softmax", "log_softmax"]), shapes, st.data(), st.sampled_from(["float32", "float64"]))
def test_softmax_of_any_shape_and_dim(name, shape, data, dtype):
    dim = data.draw(st.integers(-max(len(shape), 1), max(len(shape), 1) - 1))
    compare(lambda lib, F, x: getattr(F, name)(x, dim), normal(*shape, scale=5.0), dtype=dtype)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    "row", [[1e4, -1e4, 0], [INF, 0, 1], [-INF, 0, 1], [-INF, -INF, -INF], [NAN, 0, 1], [1e308, -1e308, 0]]
)
def test_softmax_of_extremes(name, row):
    given_row = Input((3,), lambda rng, shape: np.array(row))
    compare(lambda lib, F, x: getattr(F, name)(x, 0), given_row)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan(name):
    for length in (1, 5, 64):  # one element, and long enough for vector instructions
        assert np.isnan(getattr(F, name)(tinynet.full((length,), NAN)).numpy()).all()


def test_bounds_have_gradient_zero():
    x = tinynet.tensor([-1.0, 0.0, 3.0, 6.0, 7.0], requires_grad=True)
    F.relu6(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 0, 0]
    x.grad = None
    F.relu(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 1]


def test_sigmoid_neither_overflows_nor_loses_its_tail():
    with np.errstate(all="raise", under="ignore"):
        y = F.sigmoid(tinynet.tensor([-1e4, -80.0, 0.0, 80.0, 1e4]))
    assert y.tolist() == pytest.approx([0, np.exp(-80.0), 0.5, 1, 1], rel=1e-6)


def test_relu_keeps_its_output_not_its_input():
    x = tinynet.randn(3, requires_grad=True)
    y = F.relu(x)
    assert list(y.grad_fn.saved) == ["output"] and np.shares_memory(y.grad_fn.saved["output"], y._array)


def test_inplace_relu_has_the_same_gradient():
    x = tinynet.randn(4, 5, requires_grad=True)
    F.relu(x * 2).sum().backward()
    expected, x.grad = x.grad, None
    doubled = x * 2
    assert F.relu(doubled, inplace=True) is doubled
    doubled.sum().backward()
    assert x.grad.tolist() == expected.tolist()


@pytest.mark.parametrize("inplace", [False, True])
def test_dropout(inplace):
    x = tinynet.ones(200, 100, dtype=tinynet.float64, requires_grad=True)
    y = F.dropout(x * 1, p=0.3, inplace=inplace)
    kept = y.detach().numpy() != 0
    assert kept.mean() == pytest.approx(0.7, abs=0.01)
    assert np.unique(y.detach().numpy()).tolist() == [0, 1 / 0.7] and y.dtype == x.dtype
    y.sum().backward()
    assert (x.grad.numpy() == kept / 0.7).all()


def test_dropout_follows_the_seed_and_draws_anew():
    x = tinynet.ones(50)
    tinynet.manual_seed(3)
    first, second = F.dropout(x), F.dropout(x)
    assert first.tolist() != second.tolist()
    tinynet.manual_seed(3)
    assert F.dropout(x).tolist() == first.tolist()


def test_dropout_at_the_ends():
    x = tinynet.randn(20)
    assert F.dropout(x, 0.9, training=False) is x
    assert F.dropout(x, 0.0).tolist() == x.tolist()
    assert not F.dropout(x, 1.0).numpy().any()
    for p in (-0.1, 1.5, NAN):
        with pytest.raises(ValueError, match="must be between 0 and 1"):
            F.dropout(x, p)


def test_errors():
    with pytest.raises(TypeError, match="relu: boolean"):
        F.relu(tinynet.tensor([True]))
    with pytest.raises(TypeError, match="softmax: input must be float32 or float64, got int64"):
        F.softmax(tinynet.tensor([1, 2]), 0)
    with pytest.raises(IndexError, match="dim 2 is out of range"):
        F.softmax(tinynet.zeros(2, 3), 2)
    with pytest.raises(TypeError, match="softmax: name the axis"):
        F.softmax(tinynet.zeros(2, 3))
    with pytest.raises(ValueError, match=r"min_val 2\.0 is greater than max_val 1\.0"):
        F.hardtanh(tinynet.zeros(2), 2, 1)


def test_integers():
    assert F.relu(tinynet.tensor([-2, 3])).tolist() == [0, 3]
    assert F.sigmoid(tinynet.tensor([0, 0])).dtype == tinynet.float32
