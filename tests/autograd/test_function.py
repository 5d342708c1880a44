"""autograd.Function: operations of the user's own."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.leaves import leaf, leaf_of


class ScaledExponential(tinynet.autograd.Function):
    """exp(scale · x), with a scale that is no tensor."""

    @staticmethod
    def forward(ctx, x, scale):
        y = (x * scale).exp()
        ctx.save_for_backward(y)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y * ctx.scale, None


def test_function() -> None:
    x = leaf(3)
    y = ScaledExponential.apply(x, 2.0)
    assert y.requires_grad and "ScaledExponential" in repr(y.grad_fn)
    y.sum().backward()
    assert_close(x.grad, 2 * np.exp(2 * x.detach().numpy()))


def test_function_is_freed_and_watched() -> None:
    x = leaf(3)
    y = ScaledExponential.apply(x, 2.0)
    z = y.sum()
    z.backward()
    with pytest.raises(RuntimeError, match="freed"):
        z.backward()
    y = ScaledExponential.apply(x, 2.0)
    z = y.sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"(?i)ScaledExponential.*in.?place"):
        z.backward()


def test_function_without_gradients() -> None:
    assert not ScaledExponential.apply(tinynet.ones(2), 1.0).requires_grad
    with tinynet.no_grad():
        assert not ScaledExponential.apply(leaf(2), 1.0).requires_grad


class Product(tinynet.autograd.Function):
    """x · y and which is larger; records which gradients were asked for."""

    asked: list = []

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        larger = x > y
        floor = x * 0
        ctx.mark_non_differentiable(larger, floor)
        return x * y, larger, floor

    @staticmethod
    def backward(ctx, grad, *_):
        Product.asked.append(ctx.needs_input_grad)
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


def test_function_with_several_outputs_and_needs_input_grad() -> None:
    x, y = leaf_of([1.0, 2.0]), tinynet.tensor([3.0, 1.0])
    product, larger, floor = Product.apply(x, y)
    assert product.requires_grad and not larger.requires_grad and not floor.requires_grad
    assert larger.tolist() == [False, True]
    Product.asked.clear()
    product.sum().backward()
    assert Product.asked == [(True, False)] and x.grad.tolist() == [3.0, 1.0]


class TooFew(tinynet.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        return x + y

    @staticmethod
    def backward(ctx, grad):
        return grad


class WrongShape(tinynet.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sum()

    @staticmethod
    def backward(ctx, grad):
        return tinynet.ones(7)


def test_function_with_wrong_gradients() -> None:
    with pytest.raises(RuntimeError, match=r"TooFew.*1.*2"):
        TooFew.apply(leaf(2), leaf(2)).sum().backward()
    with pytest.raises(RuntimeError, match=r"WrongShape.*7.*2"):
        WrongShape.apply(leaf(2)).backward()


class Identity(tinynet.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * -1


def test_function_that_returns_its_input() -> None:
    x = leaf_of([1.0])
    y = Identity.apply(x)
    assert y is not x and y.grad_fn is not None
    y.backward()
    assert x.grad.tolist() == [-1.0]


class InputSaver(tinynet.autograd.Function):
    @staticmethod
    def forward(x, power):
        return x**power

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.power = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ctx.power * x ** (ctx.power - 1), None


def test_function_with_setup_context() -> None:
    x = leaf_of([2.0])
    InputSaver.apply(x, 3).backward()
    assert x.grad.tolist() == [12.0]


@pytest.mark.parametrize("differentiated", [True, False])
def test_fault_15_function_memory_is_freed_without_the_collector(differentiated: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        y = ScaledExponential.apply(x, 2.0)
        arrays = [weakref.ref(x._array), weakref.ref(y._array)]
        if differentiated:
            y.sum().backward()
        del x, y
        assert all(array() is None for array in arrays)
    finally:
        gc.enable()
