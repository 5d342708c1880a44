"""Elementwise operations: what they refuse, and what the reference table does not hold."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tinynet.errors import DtypeError, GraphError, ShapeError

OPERATORS = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]


@pytest.mark.parametrize("name", OPERATORS)
def test_shapes_that_do_not_broadcast_are_named(name: str) -> None:
    with pytest.raises(ShapeError, match=rf"{name}.*\[3, 2, 4\].*\[3, 1\]|{name}.*\[2, 4\].*\[3\]"):
        getattr(tinynet.ones(2, 4), name)(tinynet.ones(3))


def test_where_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"where.*2.*3"):
        tinynet.where(tinynet.tensor([True, False]), tinynet.ones(3), tinynet.ones(3))
    with pytest.raises(TypeError, match="boolean"):
        tinynet.where(tinynet.ones(3), tinynet.ones(3), tinynet.ones(3))


def test_clamp_needs_a_bound() -> None:
    with pytest.raises(ValueError, match="min"):
        tinynet.ones(3).clamp()


def test_clamp_with_crossed_bounds_gives_the_upper() -> None:
    assert tinynet.tensor([0.0, 5.0]).clamp(3, 1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("other", ["text", None, [1.0], object()], ids=str)
def test_operands_that_are_no_numbers(other) -> None:
    with pytest.raises((TypeError, RuntimeError)):
        tinynet.ones(2) * other
    with pytest.raises((TypeError, RuntimeError)):
        other - tinynet.ones(2)


def test_integers_are_not_changed_to_floats_in_place() -> None:
    x = tinynet.tensor([1, 2])
    for change in (lambda: x.add_(0.5), lambda: x.mul_(1.5), lambda: x.div_(2)):
        with pytest.raises(DtypeError, match="int64"):
            change()
    assert x.tolist() == [1, 2] and x._version == 0


def test_floor_division_has_no_gradient() -> None:
    x = tinynet.tensor([5.0], requires_grad=True)
    with pytest.raises(GraphError, match="gradient"):
        x // 2
    assert (x.detach() // 2).tolist() == [2.0]


def test_arrays_mix_with_tensors_on_either_side() -> None:
    x = tinynet.ones(3, requires_grad=True)
    array = np.array([1.0, 2.0, 3.0], np.float32)
    for result in (x * array, array * x, array - x, x / array):
        assert isinstance(result, tinynet.Tensor) and result.dtype == tinynet.float32
    (array * x).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_have_the_shape_of_their_operand(name: str) -> None:
    """Sums over every stretched axis, at the front and in the middle."""
    first = tinynet.rand(3, 1, 2).add_(0.5).requires_grad_()
    second = tinynet.rand(5, 1, 4, 1).add_(0.5).requires_grad_()
    result = getattr(first, name)(second)
    assert result.shape == (5, 3, 4, 2)
    result.sum().backward()
    assert first.grad.shape == first.shape and second.grad.shape == second.shape
    assert first.grad.is_contiguous() and second.grad.is_contiguous()


def test_subtraction_of_a_broadcast_operand() -> None:
    x, y = tinynet.zeros(3, 2, requires_grad=True), tinynet.zeros(2, requires_grad=True)
    (x - y).backward(tinynet.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert y.grad.tolist() == [-9.0, -12.0]


def test_only_the_factor_that_is_needed_is_kept() -> None:
    """x · constant keeps the constant only: x may be changed afterwards."""
    x = tinynet.ones(3, requires_grad=True)
    h = x * 1
    y = (h * tinynet.full((3,), 4.0)).sum()
    h.detach().zero_()
    y.backward()
    assert x.grad.tolist() == [4.0, 4.0, 4.0]


def test_no_warning_reaches_the_user(recwarn) -> None:
    x = tinynet.tensor([0.0, -1.0, float("inf"), float("nan"), 1e38], requires_grad=True)
    results = [x / 0, x - x, x.log(), x.sqrt(), x**0.5, x.exp(), x * 1e38, 1 / x, 0 / x, x.sigmoid(), x.tanh()]
    for result in results:
        result.sum().backward()
    assert [str(warning.message) for warning in recwarn] == []


def test_sigmoid_and_tanh_far_out() -> None:
    x = tinynet.tensor([-1e4, 1e4, -88.0, 88.0], requires_grad=True)
    y = x.sigmoid()
    assert_close(y, np.array([0, 1, 6.0546015e-39, 1], np.float32))
    y.sum().backward()
    assert bool(x.grad.isfinite().all())
    assert x.tanh().tolist() == [-1.0, 1.0, -1.0, 1.0]
