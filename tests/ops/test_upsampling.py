"""interpolate: random sizes and scales against torch, the sizes where rounding bites, errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tests.ops.against_torch import bounded, compare
from tests.reference.cases import normal
from tinynet.nn import functional as F

dtypes = st.sampled_from(["float32", "float64"])
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
modes = st.sampled_from(["nearest", "nearest-exact", "bilinear", "bilinear with corners"])


def options(mode: str) -> dict:
    return {"mode": "bilinear", "align_corners": True} if mode == "bilinear with corners" else {"mode": mode}


@pytest.mark.torch
@bounded
@given(sizes, st.tuples(st.integers(1, 25), st.integers(1, 25)), st.integers(0, 2), modes, dtypes)
def test_any_size(size, output, batch, mode, dtype):
    compare(
        lambda lib, F, x: F.interpolate(x, size=output, **options(mode)), normal(batch, 2, *size), dtype=dtype
    )


@pytest.mark.torch
@bounded
@given(sizes, st.tuples(*[st.floats(1.0, 4.0) | st.sampled_from([2, 0.5, 1.5])] * 2), st.booleans(), modes, dtypes)
def test_any_scale(size, scale, recompute, mode, dtype):
    if min(int(n * s) for n, s in zip(size, scale)) < 1:
        return
    compare(
        lambda lib, F, x: F.interpolate(
            x, scale_factor=scale, recompute_scale_factor=recompute, **options(mode)
        ),
        normal(1, 2, *size),
        dtype=dtype,
    )


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_every_small_pair_of_sizes(mode):
    """Integer arithmetic is wrong for many pairs of sizes; both axes carry a different one here."""
    torch = pytest.importorskip("torch")
    for size in range(1, 60, 3):
        row = tinynet.arange(float(size)).reshape(1, 1, 1, size)
        expected_row = torch.arange(float(size)).reshape(1, 1, 1, size)
        for output in range(1, 130):
            actual = F.interpolate(row, size=(1, output), mode=mode)
            expected = torch.nn.functional.interpolate(expected_row, size=(1, output), mode=mode)
            assert actual.tolist() == expected.tolist(), (size, output)


@pytest.mark.torch
def test_transposed_input():
    compare(
        lambda lib, F, x: F.interpolate(x.transpose(2, 3), scale_factor=2, mode="bilinear"), normal(2, 3, 4, 5)
    )


def test_batch_of_zero():
    x = tinynet.zeros(0, 3, 4, 5, requires_grad=True)
    for mode in ("nearest", "bilinear"):
        y = F.interpolate(x, scale_factor=2, mode=mode)
        y.sum().backward()
        assert y.shape == (0, 3, 8, 10) and x.grad.shape == x.shape


x = tinynet.zeros(1, 2, 5, 7)
REFUSED = {
    "size 0": (lambda: F.interpolate(x, size=0), "interpolate: size must be at least 1"),
    "negative size": (lambda: F.interpolate(x, size=(3, -1), mode="bilinear"), "got (3, -1)"),
    "scale 0": (lambda: F.interpolate(x, scale_factor=0.0), "scale_factor must be positive and finite"),
    "negative scale": (lambda: F.interpolate(x, scale_factor=(1.0, -2.0)), "scale_factor must be positive"),
    "scale NaN": (lambda: F.interpolate(x, scale_factor=float("nan")), "positive and finite"),
    "scale too small": (
        lambda: F.interpolate(x, scale_factor=0.15),
        "interpolate: scale_factor (0.15, 0.15) makes nothing of the input 5x7 (floor(H·scale) x floor(W·scale) = 0x1)",
    ),
    "both": (lambda: F.interpolate(x, size=3, scale_factor=2.0), "size or scale_factor, and not both"),
    "neither": (lambda: F.interpolate(x), "size or scale_factor, and not both"),
    "three sizes": (lambda: F.interpolate(x, size=(3, 3, 3)), "an integer or a pair of integers"),
    "three scales": (lambda: F.interpolate(x, scale_factor=(2, 2, 2)), "a number or a pair of numbers"),
    "recompute with a size": (
        lambda: F.interpolate(x, size=3, recompute_scale_factor=True),
        "recompute_scale_factor has no meaning with an explicit size",
    ),
    "align_corners of nearest": (
        lambda: F.interpolate(x, size=3, align_corners=False),
        "align_corners belongs to mode='bilinear'",
    ),
    "three axes": (lambda: F.interpolate(x[0], size=3), "the input must be (N, C, H, W), got shape (2, 5, 7)"),
    "three axes with a scale": (lambda: F.interpolate(x[0], scale_factor=2.0), "(N, C, H, W), got shape (2, 5, 7)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_explained(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_what_torch_has_and_tinynet_has_not_is_named():
    with pytest.raises(NotImplementedError, match="antialias"):
        F.interpolate(x, size=3, mode="bilinear", antialias=True)
    with pytest.raises(NotImplementedError, match="'bicubic'"):
        F.interpolate(x, size=3, mode="bicubic")
    with pytest.raises(TypeError, match=r"size must be an integer or a pair of integers, got 2\.5"):
        F.interpolate(x, size=2.5)
