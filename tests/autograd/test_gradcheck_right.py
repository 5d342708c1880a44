"""No correct function is refused, however badly it is scaled; every verdict is PASS."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
import tinynet.nn.functional as F
from tinynet.autograd import Function
from tinynet.autograd.gradcheck import Verdict, diagnose, gradcheck

from .wrong_functions import at, point


class Product(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad * b, grad * a


def spread(*shape, low: float, high: float):
    """Magnitudes from 10**low to 10**high."""
    generator = np.random.default_rng(3)
    values = 10.0 ** np.linspace(low, high, int(np.prod(shape))).reshape(shape)
    return tinynet.tensor(values * generator.choice([-1, 1], shape), dtype=tinynet.float64, requires_grad=True)


def positive(*shape, low: float, high: float):
    return spread(*shape, low=low, high=high).detach().abs().requires_grad_()


def weighted(function):
    """The scalar Σ w·f(x) with random w."""

    def scalar(*inputs):
        out = function(*inputs)
        weights = np.random.default_rng(5).standard_normal(tuple(out.shape))
        return (out * tinynet.from_numpy(weights)).sum()

    return scalar


def batch_norm(x, weight=None, bias=None):
    return F.batch_norm(x, None, None, weight, bias, training=True)


TARGET = tinynet.tensor([1, 0, 3])
INDEX = tinynet.tensor([0, 2, 2, 1])
MASK = tinynet.tensor([True, False, True, True])

RIGHT = {
    "Function.apply": (Product.apply, (point(3, 4), point(3, 4))),
    "one input, not in a tuple": (lambda x: x * 2, point(3)),
    "0-d input and output": (lambda x: x * x, at(3.0)[0].detach().requires_grad_()),
    "same tensor twice": (lambda a, b: a * b, (lambda x: (x, x))(point(4))),
    "broadcast": (lambda a, b, c: a * b + c, (point(3, 1, 4), point(2, 1), point())),
    "values of 1e6": (lambda x: x * x, point(4, 5, scale=1e6)),
    "values of 1e-6": (lambda x: x * x, point(4, 5, scale=1e-6)),
    "gradients of 1e-9": (lambda x: x.exp() * 1e-9, point(4, 5)),
    "gradients of 1e12": (lambda x: x.exp() * 1e12, point(4, 5)),
    "twelve decades in one tensor": (lambda x: x * x * x, spread(25, low=-6, high=6)),
    "twelve decades in one sum": (lambda x: (x * x).sum(), spread(13, low=-3, high=3)),
    "exp of 50": (lambda x: x.exp(), point(6, scale=30.0)),
    "steep sigmoid": (lambda x: (50 * x).sigmoid(), point(6)),
    "very steep sigmoid": (lambda x: (1e5 * x).sigmoid(), spread(12, low=-7, high=-4)),
    "steep tanh beside saturated ones": (lambda x: (20 * x).tanh(), spread(12, low=-2, high=1)),
    "log of small values": (lambda x: x.log(), positive(12, low=-12, high=0)),
    "log of tiny values": (lambda x: x.log(), positive(12, low=-40, high=-30)),
    "square root near zero": (lambda x: x.sqrt(), positive(12, low=-10, high=2)),
    "reciprocal near zero": (lambda x: 1 / x, spread(12, low=-6, high=1)),
    "fast sine": (lambda x: (1000 * x).sin(), point(8)),
    "sine of large values": (lambda x: x.sin(), point(8, scale=1e6)),
    "absolute value away from 0": (lambda x: x.abs(), point(4, 4)),
    "absolute value close to 0": (lambda x: x.abs(), spread(12, low=-9, high=0)),
    "relu close to 0": (F.relu, spread(12, low=-9, high=0)),
    "relu of negatives and positives": (F.relu, point(5, 5)),
    "large offset": (lambda x: x * x + 1e7, point(5)),
    "maximum without ties": (lambda x: x.max(1)[0], point(4, 6)),
    "max pool": (lambda x: F.max_pool2d(x, 3, 2, 1), point(1, 2, 7, 7)),
    "smooth l1 around its corner": (lambda x, y: F.smooth_l1_loss(x, y), (point(4, 4), point(4, 4))),
    "stationary points": (lambda x: x * x, at(0.0, 1e-9, 1.0)),
    "zeros": (lambda x: x.exp(), at(0.0, 0.0, 0.0)),
    "convolution with stride 2": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), (point(2, 2, 7, 6), point(3, 2, 3, 3), point(3))
    ),
    "batch norm": (batch_norm, (point(3, 2, 3, 3), point(2), point(2))),
    "batch norm, weighted sum": (weighted(batch_norm), (point(3, 2, 3, 3), point(2), point(2))),
    "batch norm of values around 1e4": (batch_norm, point(3, 2, 3, 3, shift=1e4)),
    "softmax": (lambda x: F.softmax(x, 1), point(3, 5)),
    "softmax of far logits": (lambda x: F.softmax(x, 1), point(3, 5, scale=20.0)),
    "log softmax of far logits": (lambda x: F.log_softmax(x, 1), point(3, 5, scale=100.0)),
    "cross entropy with integer targets": (F.cross_entropy, (point(3, 5), TARGET)),
    "cross entropy of confident logits": (F.cross_entropy, (point(3, 5, scale=8.0), TARGET)),
    "indices are constants": (lambda x, index: x[index] * 2, (point(3), INDEX)),
    "masks are constants": (lambda x, mask: tinynet.where(mask, x, 2 * x), (point(4), MASK)),
    "float32 constants that need no gradient": (lambda x, y: x * y.double(), (point(3), tinynet.ones(3))),
    "plain numbers": (lambda x, power: x**power, (point(3), 3)),
    "several outputs": (lambda x, y: (x * y, x.sum(), y.exp()), (point(3), point(3))),
    "an integer output beside": (lambda x: (x.max(1)[0], x.argmax(1)), point(3, 4)),
    "some elements unused": (lambda x: x[1:] * 2, point(4)),
    "returns its input": (lambda x: x, point(3)),
    "returns a view": (lambda x: x.t(), point(3, 4)),
    "transposed leaf": (lambda x: x * x, point(3, 4).detach().t().requires_grad_()),
    "strided leaf": (lambda x: x * x, point(6, 4).detach()[::2, 1:3].requires_grad_()),
    "more outputs than a full Jacobian takes": (lambda x: (x[:, None] * x).exp() * 1e-3, point(40)),
    "a chain": (lambda x, w: F.relu(x @ w).log_softmax(1).exp().mean(0), (point(4, 3), point(3, 5))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_function_passes(name):
    function, inputs = RIGHT[name]
    report = diagnose(function, inputs)
    assert report.verdict is Verdict.PASS, report.text
    assert report.relative_error < 1e-4, report.text


@pytest.mark.parametrize("name", ["softmax", "batch norm", "convolution with stride 2", "several outputs", "a chain"])
def test_the_fast_mode_passes_too(name):
    function, inputs = RIGHT[name]
    assert gradcheck(function, inputs, fast_mode=True) is True


def test_there_are_enough_of_them():
    assert len(RIGHT) >= 50
