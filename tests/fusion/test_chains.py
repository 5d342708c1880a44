"""What becomes one step, and what must not."""

from __future__ import annotations

import pytest

import tinynet
from tests.fusion.nets import assert_same, image, net, titles
from tinynet import nn
from tinynet.nn import functional as F


def conv(cin: int = 3, cout: int = 3, **settings) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, padding=1, **settings)


LAYERS = {"a": conv, "b": conv, "norm": lambda: nn.BatchNorm2d(3), "other": lambda: nn.BatchNorm2d(3)}

# name: (forward, the steps that it must become)
CASES = {
    "a chain": (lambda m, x: F.relu(m.norm(m.a(x))), ["convolution 3x3 + norm + relu"]),
    "two norms": (lambda m, x: m.other(m.norm(m.a(x))), ["convolution 3x3 + norm"]),
    "relu in place": (lambda m, x: m.norm(m.a(x)).relu_(), ["convolution 3x3 + norm + relu"]),
    "a join of convolutions": (
        lambda m, x: F.relu(m.norm(m.a(x)) + m.other(m.b(x))),
        ["convolution 3x3 + norm", "convolution 3x3 + norm + join + relu"],
    ),
    "+= of convolutions": (
        lambda m, x: F.relu(m.a(x).add_(m.b(x))), ["convolution 3x3", "convolution 3x3 + join + relu"],
    ),
    "a join with the input": (lambda m, x: x + m.norm(m.a(x)), ["convolution 3x3 + norm + join"]),
    "the result used twice": (
        lambda m, x: (lambda y: m.norm(y) + F.relu(y))(m.a(x)), ["convolution 3x3", "relu", "norm + join"],
    ),
    "added to itself": (lambda m, x: (lambda y: y + y)(m.a(x)), ["convolution 3x3", "join"]),
    "relu used twice": (
        lambda m, x: (lambda y: m.b(y) + y)(F.relu(m.a(x))),
        ["convolution 3x3 + relu", "convolution 3x3 + join"],
    ),
    "relu in between": (lambda m, x: m.norm(F.relu(m.a(x))), ["convolution 3x3 + relu", "norm"]),
    "norm after a join": (
        lambda m, x: m.norm(m.a(x) + x), ["convolution 3x3 + join", "norm"],
    ),
    "two joins": (lambda m, x: m.a(x) + x + x, ["convolution 3x3 + join", "join"]),
    "norm of the input": (lambda m, x: m.a(F.relu(m.norm(x))), ["norm + relu", "convolution 3x3"]),
    "norm of a pool": (
        lambda m, x: F.relu(m.norm(F.max_pool2d(x, 2)) + F.avg_pool2d(x, 2)),
        ["max pool to 3x3", "average pool to 3x3", "norm + join + relu"],
    ),
    "returned before the norm": (
        lambda m, x: (lambda y: (y, m.norm(y)))(m.a(x)), ["convolution 3x3", "norm"],
    ),
    "returned, and another chain ends last": (
        lambda m, x: (m.a(x), F.relu(m.norm(m.b(x)))), ["convolution 3x3", "convolution 3x3 + norm + relu"],
    ),
    "a join with what the convolution reads": (
        lambda m, x: (lambda y: m.b(y.view(*y.shape)) + y)(m.a(x)),
        ["convolution 3x3", "reshape", "convolution 3x3 + join"],
    ),
    "copies cost nothing": (lambda m, x: m.norm(m.a(x).clone()).contiguous().clone(), ["convolution 3x3 + norm"]),
    "what nobody needs": (lambda m, x: (m.b(x), m.a(x))[1], ["convolution 3x3"]),
    "a sum that broadcasts": (
        lambda m, x: m.a(x) + F.adaptive_avg_pool2d(x, 1), ["convolution 3x3", "average pool to 1x1", "add"],
    ),
    "norm in another dtype": (
        lambda m, x: F.batch_norm(m.a(x).double(), *(t.double() for t in (
            m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias))),
        ["convolution 3x3", "to", "norm"],
    ),
    "norm with the batch's statistics": (
        lambda m, x: F.batch_norm(m.a(x), None, None, training=True), ["convolution 3x3", "batch_norm"],
    ),
    "weights that are computed": (
        lambda m, x: F.conv2d(x, m.a.weight / m.a.weight.norm(), padding=1), ["convolution 3x3"],
    ),
    "weights from the input": (lambda m, x: F.conv2d(x, x[:, :, :1, :1] * 1.0), ["getitem", "norm", "conv2d"]),
    "norm of a view": (lambda m, x: m.a(m.norm(x.flip(-1)[..., ::2])), ["flip", "getitem", "norm", "convolution 3x3"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_fused(name: str) -> None:
    forward, expected = CASES[name]
    model = net(forward, **{layer: make() for layer, make in LAYERS.items()})
    fused = tinynet.fuse(model)
    x = image(3, 3, 6, 7)
    assert_same(model, fused, x)
    assert titles(fused) == expected
    assert_same(model, fused, x * 2)  # buffers that were used once


def test_the_later_convolution_joins() -> None:
    """It finds the other's result ready, and nothing has to live longer for it."""
    model = net(lambda m, x: m.a(x) + m.b(F.relu(x)), a=conv(), b=conv())
    plan = tinynet.fuse(model, image(1, 3, 5, 5)).plan()
    assert [(step.label, step.joins) for step in plan.steps] == [("a", False), ("", False), ("b", True)]


def test_linear_takes_norm_and_relu() -> None:
    model = net(lambda m, x: m.b(F.relu(m.norm(m.a(x)))), a=nn.Linear(4, 5), b=nn.Linear(5, 2), norm=nn.BatchNorm1d(5))
    fused = tinynet.fuse(model)
    assert_same(model, fused, image(3, 4))
    assert titles(fused) == ["linear + norm + relu", "linear"]


def test_linear_of_more_axes_takes_none() -> None:
    """(N, L, C) and norm: the channels of the norm are not those of the product."""
    model = net(lambda m, x: m.norm(m.a(x)) + m.a(x).relu(), a=nn.Linear(4, 5), norm=nn.BatchNorm1d(3))
    fused = tinynet.fuse(model)
    assert_same(model, fused, image(2, 3, 4))
    assert titles(fused)[0] == "linear"


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_stride_and_dilation(groups: int) -> None:
    layer = nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=groups, bias=False)
    model = net(lambda m, x: F.relu(m.norm(m.a(x))), a=layer, norm=nn.BatchNorm2d(8))
    for batch in (0, 1, 3):
        assert_same(model, tinynet.fuse(model), image(batch, 4, 9, 8))


def test_an_image_without_a_batch() -> None:
    model = net(lambda m, x: F.relu(m.a(x)), a=conv())
    assert_same(model, tinynet.fuse(model), image(3, 6, 5))
