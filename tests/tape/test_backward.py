"""The backward pass on the tape itself: order, accumulation, ownership, and what an error leaves behind."""

from __future__ import annotations

import gc
import operator
import weakref

import numpy as np
import pytest

import tinynet
from tinynet.errors import GraphError
from tinynet.tape import Operation, backward, edge_of
from tinynet.tensor import apply


def random_graph(seed: int, leaves: int = 3, operations: int = 25):
    """Random sums, products and shared uses of a few leaves; returns the leaves and a function of their arrays."""
    generator = np.random.default_rng(seed)
    plan = [
        (str(generator.choice(["add", "mul", "sub"])), *generator.integers(0, leaves + step, 2))
        for step in range(operations)
    ]

    def run(values):
        values = list(values)
        for name, first, second in plan:
            values.append(getattr(operator, name)(values[first], values[second]) * 0.5)
        return sum(values[leaves:], start=values[0] * 0)

    return run


@pytest.mark.parametrize("seed", range(8))
def test_a_random_graph_has_the_gradient_of_finite_differences(seed):
    run = random_graph(seed)
    points = np.random.default_rng(seed + 100).uniform(-0.9, 0.9, 3)
    leaves = [tinynet.tensor(value, dtype=tinynet.float64, requires_grad=True) for value in points]
    run(leaves).backward()
    step = 1e-6
    for index, leaf in enumerate(leaves):
        moved = np.eye(3)[index] * step
        numeric = (run(points + moved) - run(points - moved)) / (2 * step)
        # a leaf that nothing uses keeps grad None or 0
        analytic = 0.0 if leaf.grad is None else leaf.grad.item()
        assert analytic == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(5,), (300, 300), (2, 16, 80, 80)], ids=str)
def test_adding_up_changes_nothing_that_somebody_holds(seed, shape):
    """Small arrays own their memory, large ones a block of the pool: the tape adds into both if they are its own."""
    run = random_graph(seed)
    points = np.random.default_rng(seed + 100).uniform(-0.9, 0.9, 3)
    alone = [tinynet.tensor(value, dtype=tinynet.float64, requires_grad=True) for value in points]
    run(alone).backward()
    leaves = [tinynet.full(shape, value, dtype=tinynet.float64, requires_grad=True) for value in points]
    seen = []
    inner = [leaf.relu() + (-leaf).relu() * -1 for leaf in leaves]  # the leaf itself, along two ways
    for tensor in inner:
        tensor.register_hook(lambda grad: seen.append((grad, grad.clone())) or None)
    upstream = tinynet.ones(shape).double()
    run(inner).backward(upstream)
    assert seen and all((held == copy).all() for held, copy in seen)
    assert (upstream == 1).all()
    for leaf, one in zip(leaves, alone):
        expected = np.zeros(shape) if one.grad is None else np.full(shape, one.grad.item())
        assert (leaf.grad is None and not expected.any()) or np.allclose(leaf.grad.numpy(), expected, atol=1e-12)


def test_the_smallest_graph_where_another_order_is_wrong():
    x = tinynet.tensor(3.0, requires_grad=True)
    a = x * 2  # used early and late: a's gradient is complete only after b has passed its share on
    b = a * a
    (a + b).backward()
    assert x.grad.item() == 2 + 2 * 2 * 6


def test_two_parents_never_share_one_gradient_array():
    x = tinynet.ones(4, requires_grad=True)
    y = tinynet.ones(4, requires_grad=True)
    (x + y).backward(tinynet.ones(4))
    assert not np.shares_memory(x.grad._array, y.grad._array)
    x.grad.mul_(5)
    assert y.grad.tolist() == [1, 1, 1, 1]


def test_the_given_gradient_is_neither_kept_nor_changed():
    x = tinynet.ones(3, requires_grad=True)
    upstream = tinynet.tensor([1.0, 2.0, 3.0])
    (x * 1 + x).backward(upstream)
    assert upstream.tolist() == [1, 2, 3]
    x.grad.zero_()
    assert upstream.tolist() == [1, 2, 3]
    x.grad = None
    x.clone().backward(upstream)  # handed through as it is
    x.grad.zero_()
    assert upstream.tolist() == [1, 2, 3]


class Failing(Operation):
    """Passes values through and fails on the way back."""

    name = "failing"

    @staticmethod
    def forward(ctx, x):
        return x.copy()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("no way back")


def test_an_error_in_the_middle_leaves_every_gradient_as_it_was():
    x = tinynet.ones(2, requires_grad=True)
    y = tinynet.ones(2, requires_grad=True)
    y.grad = tinynet.tensor([7.0, 7.0])
    result = apply(Failing, x * 2) + y * 3
    with pytest.raises(RuntimeError, match="no way back"):
        result.sum().backward()
    assert x.grad is None
    assert y.grad.tolist() == [7, 7]


class WrongShape(Operation):
    name = "wrong_shape"

    @staticmethod
    def forward(ctx, x):
        return x.copy()

    @staticmethod
    def backward(ctx, grad):
        return grad[:1]


def test_a_gradient_of_the_wrong_shape_names_the_operation_and_both_shapes():
    x = tinynet.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match=r"wrong_shape: .*\[1\].*\[3\]"):
        apply(WrongShape, x).sum().backward()


def test_leaves_come_back_with_the_gradient_and_nothing_is_added_by_the_tape():
    x = tinynet.ones(2, requires_grad=True)
    y = x * 3
    leaves, captured = backward([(*edge_of(y), np.ones(2, np.float32))], targets=[edge_of(x)])
    assert x.grad is None
    (leaf, array, _), *others = leaves
    assert leaf is edge_of(x)[0] and array.tolist() == [3, 3] and not others
    assert captured[edge_of(x)].tolist() == [3, 3]


def test_a_graph_dies_with_its_result_without_the_garbage_collector():
    gc.disable()
    try:
        x = tinynet.ones(2, requires_grad=True)
        y = (x * 2).exp()
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_retain_graph_allows_a_second_pass_and_gradients_add_up():
    x = tinynet.tensor([2.0], requires_grad=True)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8
    with pytest.raises(GraphError, match="freed"):
        y.backward()
