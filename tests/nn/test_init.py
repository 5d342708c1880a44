"""nn.init: distributions, bounds and gains; the values themselves are the generator's affair."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.errors import ShapeError

SHAPE = (64, 32, 3, 3)  # 18,432 values: a standard deviation is known to 0.5 %


def values(tensor):
    return tensor.detach().numpy().astype(np.float64)


@pytest.mark.torch
@pytest.mark.parametrize("nonlinearity", ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gains(torch, nonlinearity):
    assert nn.init.calculate_gain(nonlinearity) == torch.nn.init.calculate_gain(nonlinearity)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


@pytest.mark.parametrize(
    ("call", "std", "bound"),
    [
        (lambda t: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / (64 * 9)), None),
        (lambda t: nn.init.kaiming_normal_(t), math.sqrt(2 / (32 * 9)), None),
        (lambda t: nn.init.kaiming_normal_(t, a=1), math.sqrt(1 / (32 * 9)), None),
        (lambda t: nn.init.kaiming_uniform_(t, a=1), math.sqrt(1 / 288), math.sqrt(3 / 288)),
        (lambda t: nn.init.kaiming_uniform_(t, a=math.sqrt(5)), 1 / math.sqrt(3 * 288), 1 / math.sqrt(288)),
        (lambda t: nn.init.xavier_normal_(t, gain=2), 2 * math.sqrt(2 / (96 * 9)), None),
        (lambda t: nn.init.xavier_uniform_(t), math.sqrt(2 / (96 * 9)), math.sqrt(6 / (96 * 9))),
        (lambda t: nn.init.normal_(t, std=0.01), 0.01, None),
        (lambda t: nn.init.uniform_(t, -2, 2), 2 / math.sqrt(3), 2.0),
    ],
)
def test_distributions(call, std, bound):
    tensor = nn.Parameter(tinynet.zeros(SHAPE))
    assert call(tensor) is tensor and tensor.requires_grad and tensor.grad_fn is None
    drawn = values(tensor)
    assert abs(drawn.mean()) < 4 * std / math.sqrt(drawn.size)
    assert abs(drawn.std() / std - 1) < 0.03
    if bound is not None:
        assert 0.99 * bound < np.abs(drawn).max() <= bound * (1 + 1e-6)
    else:
        assert np.abs(drawn).max() > 3 * std


def test_constants_and_version():
    tensor = nn.Parameter(tinynet.zeros(2, 3))
    version = tensor._version
    assert (values(nn.init.ones_(tensor)) == 1).all()
    assert (values(nn.init.constant_(tensor, 0.3)) == np.float32(0.3)).all()
    assert (values(nn.init.zeros_(tensor)) == 0).all()
    assert tensor._version > version and tensor.dtype == tinynet.float32


def test_means_generators_and_seeds():
    generator = tinynet.Generator().manual_seed(3)
    first = values(nn.init.normal_(tinynet.zeros(1000), 5.0, 0.1, generator=generator))
    assert abs(first.mean() - 5) < 0.02
    generator.manual_seed(3)
    assert np.array_equal(values(nn.init.normal_(tinynet.zeros(1000), 5.0, 0.1, generator=generator)), first)
    for fill in (nn.init.normal_, nn.init.trunc_normal_, nn.init.uniform_):
        drawn = []
        for _ in range(2):
            tinynet.manual_seed(7)
            drawn.append(values(fill(tinynet.zeros(50))))
        assert np.array_equal(*drawn)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 0.02, -2, 2), (0, 1, -0.1, 0.3), (1, 2, 0.5, 9), (0, 1, 1.5, 1.9), (0, 1, -1.9, -1.5)],
)
@pytest.mark.parametrize("dtype", [tinynet.float32, tinynet.float64])
def test_trunc_normal_stays_within_its_bounds_and_has_their_distribution(mean, std, a, b, dtype):
    from scipy.stats import kstest, truncnorm

    tensor = nn.init.trunc_normal_(tinynet.zeros(20000, dtype=dtype), mean, std, a, b)
    assert tensor.dtype == dtype
    low, high = tensor.numpy().dtype.type(a), tensor.numpy().dtype.type(b)
    assert (tensor.numpy() >= low).all() and (tensor.numpy() <= high).all()
    expected = truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert kstest(values(tensor), expected.cdf).pvalue > 1e-4


def test_trunc_normal_keeps_bounds_that_are_closer_than_its_own_rounding():
    a = 1.7
    b = a + 4 * np.spacing(a)
    drawn = nn.init.trunc_normal_(tinynet.zeros(2000, dtype=tinynet.float64), 0.0, 1.0, a, b).numpy()
    assert drawn.min() >= a and drawn.max() <= b


def test_trunc_normal_far_from_its_mean():
    with pytest.warns(UserWarning, match="more than 2 std"):
        drawn = values(nn.init.trunc_normal_(tinynet.zeros(1000), 0, 1, 12, 13))
    assert drawn.min() >= 12 and drawn.max() < 13 and 12 < drawn.mean() < 12.2
    for arguments in ({"std": 0}, {"a": 2, "b": -2}, {"std": float("nan")}):
        with pytest.raises(ValueError, match="trunc_normal_"):
            nn.init.trunc_normal_(tinynet.zeros(3), **arguments)


def test_what_has_no_fan_is_explained():
    for fill in (nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.xavier_uniform_):
        with pytest.raises(ShapeError, match=r"\[5\]"):
            fill(tinynet.zeros(5))
    with pytest.raises(ValueError, match="fan_sum"):
        nn.init.kaiming_normal_(tinynet.zeros(5, 5), mode="fan_sum")
    with pytest.raises(ValueError, match="swoosh"):
        nn.init.kaiming_normal_(tinynet.zeros(5, 5), nonlinearity="swoosh")
    with pytest.raises(ValueError, match="negative_slope"):
        nn.init.calculate_gain("leaky_relu", "steep")
    with pytest.warns(UserWarning, match="no-op"):
        nn.init.kaiming_uniform_(tinynet.zeros(0, 3))


@pytest.mark.torch
@pytest.mark.parametrize(
    "build",
    [
        lambda nn: nn.Conv2d(16, 48, (3, 5)),
        lambda nn: nn.Conv2d(32, 64, 3, groups=4),
        lambda nn: nn.ConvTranspose2d(16, 48, 3),
        lambda nn: nn.ConvTranspose2d(32, 64, 3, groups=4),
        lambda nn: nn.Linear(200, 300),
        lambda nn: nn.BatchNorm2d(8),
        lambda nn: nn.GroupNorm(2, 8),
    ],
)
def test_fresh_layers_are_distributed_as_torchs(torch, build):
    torch.manual_seed(0)
    ours, theirs = build(nn), build(torch.nn)
    for name, parameter in theirs.named_parameters():
        drawn, expected = values(ours.get_parameter(name)), values(parameter)
        spread = expected.std()
        noise = 6 * spread / math.sqrt(expected.size)
        assert drawn.shape == expected.shape
        assert abs(drawn.mean() - expected.mean()) <= noise
        assert abs(drawn.std() - spread) <= noise
        assert abs(drawn.max() - expected.max()) <= max(noise, 0.15 * spread)
        assert abs(drawn.min() - expected.min()) <= max(noise, 0.15 * spread)
