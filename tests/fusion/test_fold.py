"""The fold's formula against torch's, in float64, and what counts as an affine map of the channels."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.fusion.nets import assert_same, image, net, titles
from tinynet import nn
from tinynet.fusion.fold import ChannelMap, folded


def numbers(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_maps_in_a_row_are_one() -> None:
    first, second = (ChannelMap(numbers(5, seed=s), numbers(5, seed=s + 2)) for s in (0, 1))
    y = numbers(3, 5, seed=9)
    both = first.then(second)
    assert_close(y * both.scale + both.shift, (y * first.scale + first.shift) * second.scale + second.shift)


def test_folding_is_rounded_once() -> None:
    weight, bias = numbers(4, 3, 3, 3, seed=0).astype(np.float32), numbers(4, seed=1).astype(np.float32)
    by = ChannelMap(numbers(4, seed=2), numbers(4, seed=3))
    new_weight, new_bias = folded(weight, bias, by)
    assert new_weight.dtype == new_bias.dtype == np.float32
    exact = weight.astype(np.float64) * by.scale[:, None, None, None]
    assert np.array_equal(new_weight, exact.astype(np.float32))
    assert np.array_equal(new_bias, (bias.astype(np.float64) * by.scale + by.shift).astype(np.float32))
    assert np.array_equal(folded(weight, None, by)[1], by.shift.astype(np.float32))


@pytest.mark.torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_same_weights_as_torch(bias: bool, affine: bool) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    conv = nn.Conv2d(4, 6, 3, bias=bias, groups=2, dtype=tinynet.float64)
    norm = nn.BatchNorm2d(6, eps=1e-3, affine=affine, dtype=tinynet.float64)
    fused = tinynet.fuse(net(lambda m, x: m.norm(m.conv(x)), conv=conv, norm=norm), image(1, 4, 5, 5, dtype="float64"))
    (step,) = fused.plan().steps
    weight, shift = folded(step.weight.array, None if step.bias is None else step.bias.array, step.by)
    conv_weight, conv_bias, *statistics, scale, shift_after = (
        None if tensor is None else torch.from_numpy(tensor.detach().numpy())
        for tensor in (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    expected = fuse_conv_bn_weights(conv_weight, conv_bias, *statistics, norm.eps, scale, shift_after)
    assert_close(weight, expected[0].detach().numpy(), "weight", 1e-15)
    assert_close(shift, expected[1].detach().numpy(), "bias", 1e-15)


C = 3
MAPS = {
    "x * s": lambda x, s: x * s,
    "s * x": lambda x, s: s * x,
    "x / s": lambda x, s: x / s,
    "x - s": lambda x, s: x - s,
    "s - x": lambda x, s: s - x,
    "x * 0.5 + s - 2": lambda x, s: x * 0.5 + s - 2,
    "in place": lambda x, s: x.mul_(s).add_(s).sub_(1).div_(s),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("shape", [(1, C, 1, 1), (C, 1, 1), (1,)])
def test_arithmetic_per_channel_is_folded(name: str, shape: tuple[int, ...]) -> None:
    constant = image(*shape).abs() + 0.5
    model = net(lambda m, x: MAPS[name](m.conv(x), constant), conv=nn.Conv2d(2, C, 3))
    fused = tinynet.fuse(model)
    assert_same(model, fused, image(2, 2, 6, 7))
    assert titles(fused) == ["convolution 3x3 + norm"]


NOT_MAPS = {
    "one number per column": lambda x: x * image(1, 1, 1, 7),
    "one per image": lambda x: x + image(2, 1, 1, 1),
    "s / x": lambda x: 2 / (x * x + 1),
    "a larger result": lambda x: x * image(2, 1, 1, 1, 1),
    "a power": lambda x: x**3,
}


@pytest.mark.parametrize("name", NOT_MAPS)
def test_other_arithmetic_is_not(name: str) -> None:
    model = net(lambda m, x: NOT_MAPS[name](m.conv(x)), conv=nn.Conv2d(2, C, 3, padding=1))
    fused = tinynet.fuse(model)
    assert_same(model, fused, image(2, 2, 6, 7))
    assert titles(fused)[0] == "convolution 3x3"
