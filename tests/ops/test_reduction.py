"""Sums, means, extremes, order: what they refuse, and empty or tied input."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.errors import DtypeError

X = tinynet.arange(6).reshape(2, 3).float()


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min", "argmax", "amax", "sort", "cumsum", "any"])
@pytest.mark.parametrize("dim", [2, -3])
def test_a_dimension_out_of_range(name: str, dim: int) -> None:
    with pytest.raises(IndexError, match=rf"{dim}.*2"):
        getattr(X, name)(dim=dim)


def test_a_dimension_named_twice() -> None:
    with pytest.raises((ValueError, RuntimeError), match="twice"):
        X.sum((0, -2))


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_integers_have_no_mean(name: str) -> None:
    with pytest.raises(DtypeError, match="int64"):
        getattr(tinynet.tensor([1, 2]), name)()


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "amax"])
def test_extremes_of_nothing(name: str) -> None:
    with pytest.raises((ValueError, RuntimeError, IndexError), match="0"):
        getattr(tinynet.zeros(0, 3), name)(dim=0)
    assert getattr(tinynet.zeros(0, 3), name)(dim=1) is not None


def test_sums_of_nothing() -> None:
    x = tinynet.zeros(0, 3, requires_grad=True)
    x.sum().backward()
    assert x.grad.shape == (0, 3) and x.sum(0).tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(x.mean().item())


@pytest.mark.parametrize("k", [-1, 4])
def test_topk_of_more_than_there_are(k: int) -> None:
    with pytest.raises((ValueError, RuntimeError), match=rf"{k}.*3"):
        X.topk(k)


def test_ties_take_the_first_index_and_share_the_gradient_of_the_whole() -> None:
    x = tinynet.tensor([1.0, 3.0, 3.0, 0.0], requires_grad=True)
    assert x.argmax().item() == 1 and x.max(0).indices.item() == 1
    x.max().backward()
    assert x.grad.tolist() == [0.0, 0.5, 0.5, 0.0]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_nan_wins() -> None:
    x = tinynet.tensor([1.0, float("nan"), 3.0])
    assert x.argmax().item() == 1 and x.argmin().item() == 1 and np.isnan(x.max(0).values.item())


def test_named_results() -> None:
    result = X.max(1)
    assert result.values.tolist() == [2.0, 5.0] and result.indices.tolist() == [2, 2]
    values, indices = X.sort(descending=True)
    assert values.tolist() == [[2, 1, 0], [5, 4, 3]] and indices.dtype == tinynet.int64


def test_sums_keep_precision_in_float32() -> None:
    """Pairwise summation: a million tenths are within 1e-6 of 100,000, a running float32 sum is off by 1 %."""
    total = tinynet.full((1_000_000,), 0.1).sum().item()
    assert abs(total / 100_000 - 1) < 1e-6
    assert abs(tinynet.full((1000, 1000), 0.1).sum(0).sum().item() / 100_000 - 1) < 1e-5


def test_sum_of_half_precision_does_not_overflow_on_the_way() -> None:
    x = tinynet.full((4096,), 100.0).half()
    assert x.mean().item() == 100.0 and x.mean().dtype == tinynet.float16


def test_variance_far_from_zero() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    x = tinynet.from_numpy((values + 1e3).astype(np.float32))
    assert abs(x.var().item() / values.var(ddof=1) - 1) < 1e-3


def test_a_scalar_is_its_own_extreme() -> None:
    x = tinynet.tensor(2.5, requires_grad=True)
    assert x.max().item() == 2.5 and x.sum(0).item() == 2.5 and x.argmax().item() == 0
    x.max().backward()
    assert x.grad.item() == 1.0
