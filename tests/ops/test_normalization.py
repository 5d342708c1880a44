"""batch_norm and group_norm: statistics, running statistics, degenerate batches, random shapes against torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tests.ops.against_torch import bounded, compare
from tests.reference.cases import normal
from tinynet.nn import functional as F

dtypes = st.sampled_from(["float32", "float64"])
spatial = st.lists(st.integers(1, 4), max_size=3)


def enough(count, size):
    """A spatial size of at least three values each: of two, the gradient is nothing but rounding."""
    return size if count * int(np.prod(size)) > 2 else [*size, 3]


def running_statistics(lib, x):
    channels = x.shape[1]
    return lib.arange(channels).to(x.dtype) / 4, 1 + lib.arange(channels).to(x.dtype) / 3


@pytest.mark.torch
@bounded
@given(st.integers(2, 4), st.integers(1, 4), spatial, st.booleans(), st.sampled_from([0.1, 1.0, 0.0]), dtypes)
def test_training_of_any_shape(batch, channels, size, affine, momentum, dtype):
    def function(lib, F, x, *parameters):
        mean, variance = running_statistics(lib, x)
        y = F.batch_norm(x, mean, variance, *parameters, training=True, momentum=momentum)
        return y, mean, variance

    parameters = [normal(channels), normal(channels)] if affine else []
    compare(function, normal(batch, channels, *enough(batch, size)), *parameters, dtype=dtype)


@pytest.mark.torch
@bounded
@given(st.integers(0, 3), st.integers(1, 4), spatial, st.booleans(), dtypes)
def test_evaluation_of_any_shape(batch, channels, size, affine, dtype):
    def function(lib, F, x, *parameters):
        return F.batch_norm(x, *running_statistics(lib, x), *parameters, eps=1e-3)

    parameters = [normal(channels), normal(channels)] if affine else []
    compare(function, normal(batch, channels, *size), *parameters, dtype=dtype)


@pytest.mark.torch
@bounded
@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), spatial, st.booleans(), dtypes)
def test_group_norm_of_any_shape(batch, groups, per_group, size, affine, dtype):
    channels = groups * per_group
    size = enough(per_group, size)
    parameters = [normal(channels), normal(channels)] if affine else []
    compare(
        lambda lib, F, x, *parameters: F.group_norm(x, groups, *parameters),
        normal(batch, channels, *size),
        *parameters,
        dtype=dtype,
    )


@pytest.mark.torch
@pytest.mark.parametrize("order", [(0, 1, 3, 2), (3, 1, 2, 0), (2, 3, 0, 1)])
def test_transposed_inputs(order):
    compare(
        lambda lib, F, x: F.batch_norm(x.permute(order), None, None, training=True), normal(4, 3, 5, 2)
    )
    compare(lambda lib, F, x: F.group_norm(x.permute(order), x.permute(order).shape[1]), normal(4, 3, 5, 2))


def test_running_statistics_take_the_unbiased_variance():
    x = tinynet.tensor([[1.0], [2.0], [6.0]])
    mean, variance = tinynet.zeros(1), tinynet.ones(1)
    F.batch_norm(x, mean, variance, training=True, momentum=0.5)
    assert mean.tolist() == [1.5] and variance.tolist() == [0.5 + 0.5 * 7]
    assert mean._version == 1 and variance._version == 1
    F.batch_norm(x, mean, variance, training=False)
    assert mean._version == 1 and mean.tolist() == [1.5]


def test_backward_uses_the_statistics_of_its_own_forward():
    x = tinynet.randn(4, 2, 3, requires_grad=True)
    mean, variance = tinynet.zeros(2), tinynet.ones(2)
    y = F.batch_norm(x, mean, variance)
    F.batch_norm(x.detach() * 9, mean, variance, training=True)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1), (1, 3, 1)])
def test_one_value_per_channel_is_refused_in_training(shape):
    mean = tinynet.zeros(3)
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got an input of"):
        F.batch_norm(tinynet.zeros(*shape), mean, tinynet.ones(3), training=True)
    assert mean._version == 0 and mean.tolist() == [0, 0, 0]
    assert F.batch_norm(tinynet.zeros(*shape), mean, tinynet.ones(3)).shape == shape


def test_an_empty_batch_changes_nothing():
    x = tinynet.zeros(0, 2, 3, 3, requires_grad=True)
    weight = tinynet.ones(2, requires_grad=True)
    mean, variance = tinynet.zeros(2), tinynet.ones(2)
    y = F.batch_norm(x, mean, variance, weight, training=True)
    y.sum().backward()
    assert y.shape == x.shape and x.grad.shape == x.shape and weight.grad.tolist() == [0, 0]
    assert mean.tolist() == [0, 0] and variance.tolist() == [1, 1]
    assert F.group_norm(x, 2).shape == x.shape


def test_a_constant_channel_has_a_finite_gradient():
    for dtype in (tinynet.float32, tinynet.float64):
        x = tinynet.full((4, 2, 3, 3), 1234.5, dtype=dtype, requires_grad=True)
        y = F.batch_norm(x, None, None, training=True)
        y.backward(tinynet.randn(*x.shape, dtype=dtype))
        assert not y.detach().numpy().any() and np.isfinite(x.grad.numpy()).all()


def test_nan_reaches_the_output_and_the_running_statistics():
    x = tinynet.ones(2, 2, 2)
    x[0, 1, 0] = float("nan")
    mean, variance = tinynet.zeros(2), tinynet.ones(2)
    y = F.batch_norm(x, mean, variance, training=True).numpy()
    assert np.isnan(y[:, 1]).all() and not np.isnan(y[:, 0]).any()
    assert np.isnan(mean.numpy()).tolist() == [False, True] and np.isnan(variance.numpy()).tolist() == [False, True]


@pytest.mark.parametrize("shape", [(8, 6, 28, 28), (2, 512, 9, 7), (40, 3)], ids=str)
def test_the_variance_survives_a_mean_that_is_ten_thousand_times_larger(shape):
    """Mean square minus squared mean would cancel: 1e8 + 1 - 1e8 in float32."""
    x = (1e4 + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    mean, variance = tinynet.zeros(shape[1]), tinynet.zeros(shape[1])
    F.batch_norm(tinynet.from_numpy(x), mean, variance, training=True, momentum=1.0)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean.numpy(), x.mean(axes, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(variance.numpy(), x.astype(np.float64).var(axes, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("pixel", [0, 1, 5])
def test_an_infinite_number_makes_its_mean_infinite(pixel):
    x = tinynet.ones(2, 2, 40)
    x[0, 1, pixel] = float("inf")
    mean, variance = tinynet.zeros(2), tinynet.ones(2)
    F.batch_norm(x, mean, variance, training=True)
    assert mean.numpy()[1] == np.inf and np.isnan(variance.numpy()[1])
    assert mean.numpy()[0] == np.float32(0.1) and np.isfinite(variance.numpy()[0])


def test_nothing_of_the_inputs_size_is_stored():
    x = tinynet.randn(4, 3, 5, 5)
    y = F.batch_norm(x.requires_grad_(), None, None, training=True)
    arrays = [value for value in y.grad_fn.saved.values() if isinstance(value, np.ndarray)]
    assert [a.size for a in arrays if a is not x._array] == [3, 3]


one = tinynet.ones
REFUSED = {
    "weight": (
        lambda: F.batch_norm(one(2, 3, 4), None, None, one(4), training=True),
        "weight has shape (4,), one value per channel is (3,)",
    ),
    "running_mean": (
        lambda: F.batch_norm(one(2, 3, 4), one(2), one(2)),
        "running_mean has shape (2,), one value per channel is (3,)",
    ),
    "running_var alone": (
        lambda: F.batch_norm(one(2, 3), None, one(3), training=True),
        "running_mean and running_var must both be given, or neither",
    ),
    "evaluation without statistics": (
        lambda: F.batch_norm(one(2, 3), None, None),
        "outside of training, running_mean and running_var are needed",
    ),
    "one axis": (lambda: F.batch_norm(one(3), None, None, training=True), "the input must be (N, C, ...)"),
    "no channels": (lambda: F.batch_norm(one(3, 0), None, None, training=True), "only the batch may be empty"),
    "eps 0": (
        lambda: F.batch_norm(one(2, 3), None, None, training=True, eps=0),
        "eps must be positive in training, got 0",
    ),
    "eps": (lambda: F.group_norm(one(2, 3, 4), 3, eps=-1), "group_norm: eps must be between 0 and inf, got -1"),
    "groups": (lambda: F.group_norm(one(2, 3, 4), 2), "group_norm: 2 groups do not divide the input's channels = 3"),
    "no groups": (lambda: F.group_norm(one(2, 3, 4), 0), "num_groups must be at least 1"),
    "one value per group": (lambda: F.group_norm(one(1, 4), 4), "expected more than 1 value per group"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_explained(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_dtypes_are_explained():
    with pytest.raises(TypeError, match="the input is float64 but running_mean is float32"):
        F.batch_norm(one(2, 3).double(), one(3), one(3))
    with pytest.raises(TypeError, match="momentum must be a number, got None"):
        F.batch_norm(one(2, 3), one(3), one(3), training=True, momentum=None)
