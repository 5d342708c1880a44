"""Random chains of operations: the right ones never fail, and with one element off by 1 % they always do."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
import tinynet.nn.functional as F
from tinynet.autograd import Function
from tinynet.autograd.gradcheck import Verdict, diagnose

STEPS = {
    "exp": lambda x: x.exp(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "square": lambda x: x * x,
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "relu": F.relu,
    "abs": lambda x: x.abs(),
    "add mean": lambda x: x.mean(-1, keepdim=True) + x,
    "normalise": lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(),
    "sin": lambda x: x.sin(),
    "inverse": lambda x: 1 / (x * x + 0.1),
    "log": lambda x: (x * x + 1e-8).log(),
    "times max": lambda x: x.max(-1, keepdim=True)[0] * x,
    "cumsum": lambda x: x.cumsum(-1),
    "scale": lambda x: 37.0 * x - 5.0,
}


def chain(seed: int):
    """A random function, its names, and a point."""
    generator = np.random.default_rng(seed)
    names = [str(name) for name in generator.choice(list(STEPS), generator.integers(1, 4))]
    shape = tuple(generator.integers(2, 5, 2))
    x = tinynet.tensor(
        generator.normal(size=shape) * 10 ** generator.uniform(-2, 1), dtype=tinynet.float64, requires_grad=True
    )
    weights = tinynet.from_numpy(generator.normal(size=shape))
    weigh = generator.random() < 0.5

    def function(x):
        for name in names:
            x = STEPS[name](x)
        return (x * weights).sum() if weigh else x

    return function, names, x


def off_by_one_percent(element: int):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            changed = grad.clone().reshape(-1)
            changed[element] = changed[element] * 1.01
            return changed.reshape(grad.shape)

    return Wrong.apply


@pytest.mark.parametrize("first", range(0, 150, 30))
def test_random_chains(first):
    passed = 0
    for seed in range(first, first + 30):
        function, names, x = chain(seed)
        if not np.isfinite(function(x).detach().numpy()).all():
            continue
        report = diagnose(function, x)
        assert report.verdict is not Verdict.FAIL, (seed, names, report.text)
        if report.verdict is Verdict.PASS:
            passed += 1
            _check_power(function, x, seed)
    assert passed >= 20


def _check_power(function, x, seed: int) -> None:
    """The same function with one element's gradient off by 1 %, where it is largest."""
    out = function(x)
    upstream = tinynet.from_numpy(np.random.default_rng(seed).normal(size=tuple(out.shape)))
    (gradient,) = tinynet.autograd.grad(out, x, upstream)
    element = int(np.argmax(np.abs(gradient.numpy())))
    wrong = off_by_one_percent(element)
    report = diagnose(lambda x: function(wrong(x)), x)
    index = tuple(int(i) for i in np.unravel_index(element, tuple(x.shape)))
    assert report.verdict is Verdict.FAIL, (seed, report.text)
    assert f"only 1 of {x.numel()} elements is wrong: index {index}" in report.text
    assert "factor 1.01" in report.text
