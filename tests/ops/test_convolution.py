"""conv2d, conv_transpose2d, unfold and fold: random shapes against torch, layouts, what is saved, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tests.comparison import assert_close
from tests.ops.against_torch import bounded, compare
from tests.reference.cases import normal
from tinynet.nn import functional as F

dtypes = st.sampled_from(["float32", "float64"])


@st.composite
def windows(draw):
    """(size, settings) of a window that fits: rectangular, strided, padded, dilated."""
    size, settings = [], {"kernel_size": [], "stride": [], "padding": [], "dilation": []}
    for _ in range(2):
        kernel, stride, dilation = draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)))
        padding = draw(st.integers(0, 3))
        smallest = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        size.append(smallest + draw(st.integers(0, 5)))
        for name, value in zip(settings, (kernel, stride, padding, dilation)):
            settings[name].append(value)
    return tuple(size), {name: tuple(values) for name, values in settings.items()}


@st.composite
def channel_counts(draw):
    """(input channels, output channels, groups)"""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), groups


@pytest.mark.torch
@bounded
@given(windows(), channel_counts(), st.integers(0, 2), st.booleans(), dtypes)
def test_conv2d_of_any_shape(window, channels, batch, with_bias, dtype):
    size, settings = window
    kernel = settings.pop("kernel_size")
    c_in, c_out, groups = channels
    inputs = [normal(batch, c_in, *size), normal(c_out, c_in // groups, *kernel)]
    inputs += [normal(c_out)] if with_bias else []
    compare(lambda lib, F, *tensors: F.conv2d(*tensors, groups=groups, **settings), *inputs, dtype=dtype)


@pytest.mark.torch
@bounded
@given(st.data(), channel_counts(), st.integers(0, 2), dtypes)
def test_conv_transpose2d_of_any_shape(data, channels, batch, dtype):
    size, settings = data.draw(windows())
    kernel = settings.pop("kernel_size")
    extra = [data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(settings["stride"], settings["dilation"])]
    # a padding that leaves an output of at least 1
    settings["padding"] = tuple(
        min(p, ((n - 1) * s + d * (k - 1) + e) // 2)
        for p, n, s, d, k, e in zip(settings["padding"], size, settings["stride"], settings["dilation"], kernel, extra)
    )
    c_in, c_out, groups = channels
    compare(
        lambda lib, F, x, w, b: F.conv_transpose2d(x, w, b, output_padding=tuple(extra), groups=groups, **settings),
        normal(batch, c_in, *size),
        normal(c_in, c_out // groups, *kernel),
        normal(c_out),
        dtype=dtype,
    )


@pytest.mark.torch
@bounded
@given(windows(), st.integers(0, 2), st.integers(1, 3), dtypes)
def test_unfold_and_fold_of_any_shape(window, batch, channels, dtype):
    size, settings = window
    compare(lambda lib, F, x: F.unfold(x, **settings), normal(batch, channels, *size), dtype=dtype)
    count = F.unfold(tinynet.zeros(1, channels, *size), **settings).shape[1:]
    compare(lambda lib, F, x: F.fold(x, size, **settings), normal(batch, *count), dtype=dtype)
    compare(lambda lib, F, x: F.fold(x, size, **settings), normal(*count), dtype=dtype)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 5), (3, 2)])
@pytest.mark.parametrize("dilation", [1, (2, 3)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_same_padding(kernel, dilation, batch):
    compare(
        lambda lib, F, x, w, b: F.conv2d(x, w, b, padding="same", dilation=dilation),
        normal(*batch, 3, 7, 6),
        normal(4, 3, *kernel),
        normal(4),
    )


def layouts(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same values lying differently in memory."""
    strided = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
    strided[...] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    reversed_rows = np.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1]
    return {
        "transposed": np.ascontiguousarray(array.T).T,
        "strided": strided,
        "read-only": read_only,
        "negative strides": reversed_rows,
    }


@pytest.mark.parametrize("layout", ["transposed", "strided", "read-only", "negative strides"])
def test_layouts_give_the_same_result(layout):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((4, 2, 3, 2))

    def run(x, w):
        x, w = tinynet.from_numpy(x).requires_grad_(), tinynet.from_numpy(w).requires_grad_()
        y = F.conv2d(x, w, stride=2, padding=1, groups=2)
        (y * y).sum().backward()
        return y.detach(), x.grad, w.grad

    for actual, expected in zip(run(layouts(x)[layout], layouts(w)[layout]), run(x, w)):
        assert_close(actual, expected)


def test_zero_strides_give_the_same_result():
    x = tinynet.from_numpy(np.broadcast_to(np.arange(6.0)[:, None], (2, 3, 6, 5)))
    w = tinynet.randn(4, 3, 3, 3, dtype=tinynet.float64)
    assert_close(F.conv2d(x, w, padding=1), F.conv2d(x.clone(), w, padding=1))


def test_empty_batch_has_zero_gradients():
    x = tinynet.zeros(0, 3, 5, 5, requires_grad=True)
    w, b = tinynet.randn(4, 3, 3, 3, requires_grad=True), tinynet.randn(4, requires_grad=True)
    y = F.conv2d(x, w, b, stride=2)
    y.sum().backward()
    assert y.shape == (0, 4, 2, 2) and x.grad.shape == x.shape
    assert not w.grad.numpy().any() and not b.grad.numpy().any()


def test_only_what_backward_needs_is_saved():
    x, w = tinynet.randn(1, 2, 4, 4), tinynet.randn(3, 2, 3, 3)
    frozen_weight = F.conv2d(x.clone().requires_grad_(), w).grad_fn
    assert frozen_weight.saved["input"] is None and frozen_weight.saved["weight"] is not None
    first_layer = F.conv2d(x, w.clone().requires_grad_()).grad_fn
    assert first_layer.saved["weight"] is None and first_layer.saved["input"] is not None


def test_a_changed_input_is_refused():
    x = tinynet.randn(1, 2, 4, 4)
    y = F.conv2d(x, tinynet.randn(3, 2, 3, 3, requires_grad=True))
    x.mul_(2)
    with pytest.raises(RuntimeError, match=r"conv2d: the value 'input' .* modified"):
        y.sum().backward()


x, w = tinynet.zeros(2, 3, 5, 5), tinynet.zeros(4, 3, 3, 3)
REFUSED = {
    "kernel too large": (
        lambda: F.conv2d(x, tinynet.zeros(4, 3, 7, 7)),
        "conv2d: kernel 7x7 does not fit the padded input 5x5 "
        "(H + 2·padding - dilation·(kernel-1) - 1 = 5 + 0 - 6 - 1 = -2 < 0)",
    ),
    "kernel too wide": (
        lambda: F.conv2d(x, tinynet.zeros(4, 3, 3, 5), padding=(0, 1), dilation=2),
        "kernel 3x5 does not fit the padded input 5x7 (W + 2·padding - dilation·(kernel-1) - 1 "
        "= 5 + 2 - 8 - 1 = -2 < 0)",
    ),
    "channels": (
        lambda: F.conv2d(tinynet.zeros(2, 4, 5, 5), w),
        "conv2d: the input of shape (2, 4, 5, 5) has 4 channels, but the weight of shape (4, 3, 3, 3) "
        "with groups=1 takes 3",
    ),
    "stride 0": (lambda: F.conv2d(x, w, stride=0), "conv2d: stride must be at least 1"),
    "stride (1, 0)": (lambda: F.conv2d(x, w, stride=(1, 0)), "got (1, 0)"),
    "negative padding": (lambda: F.conv2d(x, w, padding=-1), "conv2d: padding must be at least 0"),
    "dilation 0": (lambda: F.conv2d(x, w, dilation=0), "conv2d: dilation must be at least 1"),
    "enormous stride": (lambda: F.conv2d(x, w, stride=2**40), "stride must be at least 1 (and below 2**31)"),
    "groups 0": (lambda: F.conv2d(x, w, groups=0), "conv2d: groups must be at least 1"),
    "groups of the output": (
        lambda: F.conv2d(x, w, groups=3),
        "conv2d: 3 groups do not divide out_channels = 4",
    ),
    "groups of the input": (
        lambda: F.conv2d(x, w, groups=2),
        "conv2d: 2 groups do not divide in_channels = 3",
    ),
    "three numbers": (lambda: F.conv2d(x, w, stride=(1, 1, 1)), "stride must be an integer or a pair"),
    "two axes": (lambda: F.conv2d(x[0, 0], w), "conv2d: the input must be (N, C, H, W) or (C, H, W)"),
    "empty image": (lambda: F.conv2d(x[:, :, :0], w, padding=3), "only the batch may be empty"),
    "weight of two axes": (lambda: F.conv2d(x, w[0, 0]), "the weight must have four axes"),
    "bias": (
        lambda: F.conv2d(x, w, tinynet.zeros(3)),
        "bias has shape (3,), one value per channel is (4,)",
    ),
    "padding by another name": (lambda: F.conv2d(x, w, padding="full"), "'same' or 'valid', got 'full'"),
    "same with a stride": (lambda: F.conv2d(x, w, padding="same", stride=2), "needs stride 1, got stride 2"),
    "transposed channels": (
        lambda: F.conv_transpose2d(tinynet.zeros(2, 3, 5, 5), w),
        "has 3 channels, but the weight of shape (4, 3, 3, 3) with groups=1 takes 4",
    ),
    "output_padding": (
        lambda: F.conv_transpose2d(tinynet.zeros(2, 4, 5, 5), w, stride=2, output_padding=2),
        "output_padding 2x2 must be smaller than stride 2x2 or dilation 1x1",
    ),
    "no output left": (
        lambda: F.conv_transpose2d(tinynet.zeros(2, 4, 1, 1), w, padding=2),
        "= 0 - 4 + 2 + 0 + 1 = -1 < 1)",
    ),
    "unfold": (lambda: F.unfold(x, 6), "unfold: kernel 6x6 does not fit the padded input 5x5"),
    "fold windows": (
        lambda: F.fold(tinynet.zeros(1, 18, 8), 5, 3),
        "fold: the input has 8 windows, but an output of 5x5 is made of 3x3 = 9",
    ),
    "fold rows": (lambda: F.fold(tinynet.zeros(1, 17, 9), 5, 3), "17 rows are no multiple of the kernel 3x3 = 9"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_explained(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_dtypes_are_explained():
    with pytest.raises(TypeError, match="input is float32 but weight is float64"):
        F.conv2d(x, w.double())
    with pytest.raises(TypeError, match="conv2d: input must be float32 or float64, got int64"):
        F.conv2d(x.long(), w.long())
    with pytest.raises(TypeError, match=r"stride must be an integer or a pair of integers, got 1\.5"):
        F.conv2d(x, w, stride=1.5)


def test_errors_leave_nothing_behind():
    weight = tinynet.zeros(4, 3, 7, 7, requires_grad=True)
    with pytest.raises(RuntimeError):  # torch's class catches it too
        F.conv2d(x, weight)
    assert weight.grad is None and weight._version == 0
