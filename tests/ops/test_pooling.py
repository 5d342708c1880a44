"""max_pool2d, avg_pool2d and adaptive_avg_pool2d: random shapes against torch, NaN, -inf, ties, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tests.ops.against_torch import bounded, compare
from tests.reference.cases import Input, normal, rounded
from tinynet import kernels
from tinynet.nn import functional as F
from tinynet.ops import pooling
from tinynet.tensor import apply

dtypes = st.sampled_from(["float32", "float64"])


@st.composite
def pools(draw, dilated: bool):
    """(size, settings) of a pooling window that fits; padding is at most half of the kernel."""
    size, settings = [], {"kernel_size": [], "stride": [], "padding": [], "dilation": []}
    for _ in range(2):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        dilation = draw(st.integers(1, 2)) if dilated else 1
        padding = draw(st.integers(0, kernel // 2))
        # from `dilation` pixels on, no window lies in the padding alone (torch then writes out of bounds)
        smallest = max(dilation, dilation * (kernel - 1) + 1 - 2 * padding)
        size.append(smallest + draw(st.integers(0, 6)))
        for name, value in zip(settings, (kernel, stride, padding, dilation)):
            settings[name].append(value)
    if not dilated:
        del settings["dilation"]
    settings = {name: tuple(values) for name, values in settings.items()}
    return tuple(size), settings | {"ceil_mode": draw(st.booleans())}


@pytest.mark.torch
@bounded
@given(pools(dilated=True), st.integers(0, 2), st.booleans(), dtypes)
def test_max_pool_of_any_shape(pool, batch, ties, dtype):
    size, settings = pool
    drawn = rounded(batch, 2, *size) if ties else normal(batch, 2, *size)
    compare(lambda lib, F, x: F.max_pool2d(x, return_indices=True, **settings), drawn, dtype=dtype)


@pytest.mark.torch
@bounded
@given(pools(dilated=False), st.integers(0, 2), st.booleans(), st.sampled_from([None, 1, 5]), dtypes)
def test_average_pool_of_any_shape(pool, batch, count_include_pad, divisor, dtype):
    size, settings = pool
    settings |= {"count_include_pad": count_include_pad, "divisor_override": divisor}
    compare(lambda lib, F, x: F.avg_pool2d(x, **settings), normal(batch, 2, *size), dtype=dtype)


@pytest.mark.torch
@bounded
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(*[st.none() | st.integers(1, 9)] * 2), dtypes)
def test_adaptive_average_pool_of_any_shape(size, output, dtype):
    compare(lambda lib, F, x: F.adaptive_avg_pool2d(x, output), normal(2, 3, *size), dtype=dtype)


@pytest.mark.torch
@bounded
@given(pools(dilated=True), st.integers(0, 2**32 - 1))
def test_windows_of_nan_and_minus_infinity(pool, seed):
    size, settings = pool

    def draw(rng, shape):
        return rng.choice([np.nan, -np.inf, -np.inf, np.inf, 1.0], size=shape)

    compare(
        lambda lib, F, x: F.max_pool2d(x, return_indices=True, **settings),
        Input((1, 2, *size), draw),
        seed=seed,
    )


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_window_of_nothing_but_one_value_writes_inside(value):
    x = tinynet.full((1, 1, 6, 6), value, requires_grad=True)
    y, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert indices.numpy().min() >= 0 and indices.numpy().max() < 36
    y.backward(tinynet.ones(*y.shape))
    assert x.grad.sum().item() == y.numel()


def test_a_window_that_steps_over_the_input_is_empty():
    x = tinynet.ones(1, 1, 1, 3, requires_grad=True)
    y = F.max_pool2d(x, 2, stride=1, padding=1, dilation=2)
    y.backward(tinynet.ones(*y.shape))
    assert y.flatten().tolist() == [-float("inf")] * 3 and not x.grad.numpy().any()


def test_the_first_maximum_takes_the_gradient():
    x = tinynet.ones(1, 1, 2, 2, requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("return_indices", [True, False])
def test_only_indices_are_kept(return_indices):
    x = tinynet.randn(2, 3, 6, 6, requires_grad=True)
    y = apply(pooling.MaxPool, x, kernel_size=2, return_indices=return_indices)
    saved = (y[0] if return_indices else y).grad_fn.saved
    assert {name for name, value in saved.items() if isinstance(value, np.ndarray)} == {"indices"}
    compiled = kernels.current_backend() == "numba"
    assert saved["indices"].itemsize == (1 if compiled and not return_indices else 8)
    assert not any(isinstance(v, np.ndarray) for v in F.avg_pool2d(x, 2).grad_fn.saved.values())


def test_indices_carry_no_gradient():
    y, indices = F.max_pool2d(tinynet.randn(3, 6, 6, requires_grad=True), 2, return_indices=True)
    assert y.shape == indices.shape == (3, 3, 3)
    assert indices.dtype == tinynet.int64 and y.requires_grad and not indices.requires_grad


x = tinynet.zeros(1, 2, 5, 5)
REFUSED = {
    "kernel too large": (
        lambda: F.max_pool2d(x, 6),
        "max_pool2d: kernel 6x6 does not fit the padded input 5x5 "
        "(H + 2·padding - dilation·(kernel-1) - 1 = 5 + 0 - 5 - 1 = -1 < 0)",
    ),
    "kernel too large for ceil_mode": (
        lambda: F.avg_pool2d(x, (1, 8), 2, ceil_mode=True),
        "(W + 2·padding - dilation·(kernel-1) - 1 = 5 + 0 - 7 - 1 = -3 < 1 - stride = -1)",
    ),
    "max padding": (
        lambda: F.max_pool2d(x, 3, padding=2),
        "max_pool2d: padding 2x2 is more than half of the kernel 3x3",
    ),
    "average padding": (
        lambda: F.avg_pool2d(x, (3, 2), padding=(1, 2)),
        "avg_pool2d: padding 1x2 is more than half of the kernel 3x2",
    ),
    "negative padding": (lambda: F.avg_pool2d(x, 3, padding=-1), "padding must be at least 0"),
    "stride 0": (lambda: F.max_pool2d(x, 3, 0), "stride must be at least 1"),
    "kernel 0": (lambda: F.avg_pool2d(x, 0), "kernel_size must be at least 1"),
    "dilation 0": (lambda: F.max_pool2d(x, 2, dilation=0), "dilation must be at least 1"),
    "divisor 0": (lambda: F.avg_pool2d(x, 2, divisor_override=0), "divisor_override must be at least 1"),
    "adaptive 0": (lambda: F.adaptive_avg_pool2d(x, (0, 1)), "output_size must be at least 1"),
    "empty image": (lambda: F.max_pool2d(x[:, :, :0], 1), "only the batch may be empty"),
    "two axes": (lambda: F.adaptive_avg_pool2d(x[0, 0], 1), "the input must be (N, C, H, W) or (C, H, W)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_explained(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_dtypes_are_explained():
    with pytest.raises(TypeError, match="max_pool2d: input must be float32 or float64, got int64"):
        F.max_pool2d(x.long(), 2)
