"""What may go wrong with tensors and the tape, as fifteen numbered faults: what the user sees in each."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.leaves import leaf, leaf_of


def test_fault_01_an_integer_tensor_cannot_require_grad() -> None:
    with pytest.raises(TypeError, match="int64"):
        tinynet.tensor([1, 2]).requires_grad_()
    with pytest.raises(TypeError, match="int64"):
        tinynet.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match="bool"):  # as torch would raise it
        tinynet.tensor([True]).requires_grad = True


@pytest.mark.parametrize("name", ["__add__", "__sub__", "__mul__", "__truediv__", "__lt__", "maximum", "__pow__"])
def test_fault_02_shapes_that_do_not_broadcast(name: str) -> None:
    with pytest.raises(ValueError, match=r"\[?\(?2, 3.*4, 3"):
        getattr(tinynet.ones(2, 3), name)(tinynet.ones(4, 3))


def test_fault_02_in_place() -> None:
    x = tinynet.ones(3)
    with pytest.raises(ValueError, match=r"2, 3.*3"):
        x.add_(tinynet.ones(2, 3))
    assert x.tolist() == [1, 1, 1] and x._version == 0


@pytest.mark.parametrize("first, second", [((2, 3), (4, 5)), ((3,), (4,)), ((2, 3, 4), (3, 4)), ((2, 2, 3), (4, 3, 5))])
def test_fault_03_matmul_of_unequal_inner_sizes(first, second) -> None:
    with pytest.raises(ValueError) as caught:
        tinynet.ones(*first) @ tinynet.ones(*second)
    for size in (*first, *second):
        assert str(size) in str(caught.value)


def test_fault_03_matmul_of_a_scalar() -> None:
    with pytest.raises(ValueError):
        tinynet.tensor(1.0) @ tinynet.ones(3)


def test_fault_04_backward_of_a_non_scalar() -> None:
    x = leaf(2, 3)
    with pytest.raises(RuntimeError, match="pass a gradient"):
        (x * 2).backward()
    assert x.grad is None
    with pytest.raises(ValueError, match=r"3, 2.*2, 3"):
        (x * 2).backward(tinynet.ones(3, 2))


def test_fault_05_a_second_backward() -> None:
    x = leaf(3)
    y = (x * x).sum()
    y.backward()
    before = x.grad.clone()
    with pytest.raises(RuntimeError, match="the graph was freed"):
        y.backward()
    assert x.grad.equal(before)


def test_fault_05_a_second_backward_through_a_shared_part() -> None:
    x = leaf(3)
    shared = x.exp()
    (shared * 2).sum().backward()
    with pytest.raises(RuntimeError, match="the graph was freed"):
        (shared * 3).sum().backward()


def test_fault_05_retained_graphs_can_be_used_again() -> None:
    x = leaf_of([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_fault_06_backward_without_a_graph() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        tinynet.ones(1).backward()
    x = leaf(3)
    with tinynet.no_grad():
        y = x.sum()
    with pytest.raises(RuntimeError, match="does not require grad"):
        y.backward()


CHANGED = {
    "exp": lambda x: x.exp(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "relu": lambda x: x.relu(),
    "sqrt": lambda x: (x * x + 1).sqrt(),
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_fault_07_inplace_change_of_saved_value(name: str) -> None:
    x = leaf(3)
    y = CHANGED[name](x)
    z = y.sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match=f"{name}.*in.?place"):
        z.backward()
    assert x.grad is None


def test_fault_07_of_a_factor_through_its_view() -> None:
    x, w = leaf(2, 3), leaf(2, 3)
    y = w * 1
    z = (x * y).sum()
    y.detach()[0].zero_()
    with pytest.raises(RuntimeError, match=r"mul.*in.?place"):
        z.backward()


def test_fault_07_of_a_constant() -> None:
    x, factor = leaf(3), tinynet.ones(3).double()
    z = (x * factor).sum()
    factor.fill_(2)
    with pytest.raises(RuntimeError, match=r"mul.*in.?place"):
        z.backward()


def test_fault_07_a_change_that_does_no_harm() -> None:
    x, shift = leaf(3), tinynet.ones(3)
    z = (x + shift).sum()
    shift.fill_(2)  # addition needs no value
    z.backward()
    assert x.grad.tolist() == [1, 1, 1]


def test_fault_07_an_optimizer_between_forward_and_backward() -> None:
    layer = tinynet.nn.Linear(3, 1)
    x = tinynet.randn(2, 3, requires_grad=True)
    loss = layer(x).sum()
    with tinynet.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(RuntimeError, match=r"linear.*in.?place"):
        loss.backward()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.add_(1),
        lambda x: x.zero_(),
        lambda x: x.__setitem__(0, 1.0),
        lambda x: x[0].mul_(2),
        lambda x: x.view(-1).fill_(1),
    ],
    ids=["add_", "zero_", "item", "row", "view"],
)
def test_fault_08_inplace_change_of_a_leaf(change) -> None:
    x = leaf(2, 3)
    before = x.detach().clone()
    with pytest.raises(RuntimeError, match="leaf"):
        change(x)
    assert x.detach().equal(before) and x.is_leaf
    with tinynet.no_grad():
        change(x)
    assert not x.detach().equal(before) and x.requires_grad


@pytest.mark.parametrize("how", ["alias", "saved output"])
def test_fault_09_a_numpy_alias_changed_behind_the_tape(how: str) -> None:
    with tinynet.autograd.detect_anomaly():
        array = np.ones(3)
        x = leaf_of([1.0, 2.0, 3.0]).double()
        factor = tinynet.from_numpy(array)
        y = x * factor if how == "alias" else (x * factor).exp()
        z = y.sum()
        (array if how == "alias" else y.detach().numpy())[0] = 7
        with pytest.raises(RuntimeError, match=r"(mul|exp).*changed"):
            z.backward()


def test_fault_10_a_chain_of_10000_operations() -> None:
    x = leaf_of([1.0])
    y = x
    for _ in range(10_000):
        y = y + 0.0001
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y
    gc.collect()


def test_fault_10_a_chain_dies_without_recursion() -> None:
    y = leaf_of([1.0])
    for _ in range(20_000):
        y = y * 1.0
    del y  # never differentiated: freeing it must not recurse through 20,000 nodes


def test_fault_10_copies_in_a_chain() -> None:
    x = leaf_of([1.0, 2.0])
    y = x * 2
    for step in (copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))):
        copied = step(x)
        assert copied.requires_grad and copied.is_leaf and copied.tolist() == [1, 2]
        try:
            of_result = step(y)
        except RuntimeError as error:
            assert "leaf" in str(error) or "leaves" in str(error)
        else:
            assert of_result.tolist() == [2, 4] and of_result.is_leaf


def test_fault_11_one_tensor_used_twice() -> None:
    x = leaf_of([2.0, 3.0])
    (x * x + x + x).sum().backward()
    assert x.grad.tolist() == [6.0, 8.0]


def test_fault_11_parents_share_no_gradient_array() -> None:
    x, y = leaf(3), leaf(3)
    (x + y).backward(tinynet.ones(3).double())
    x.grad.mul_(5)
    assert y.grad.tolist() == [1, 1, 1]
    assert not np.shares_memory(x.grad.numpy(), y.grad.numpy())


def test_fault_11_the_passed_gradient_is_not_kept() -> None:
    x, gradient = leaf(3), tinynet.ones(3).double()
    for _ in range(2):
        (x + 0).backward(gradient)
    assert gradient.tolist() == [1, 1, 1] and x.grad.tolist() == [2, 2, 2]
    assert not np.shares_memory(x.grad.numpy(), gradient.numpy())


@pytest.mark.parametrize("function", ["view", "clone", "transpose"])
def test_fault_11_views_keep_gradients_apart(function: str) -> None:
    x = leaf(2, 2)
    y = {"view": x.view(4), "clone": x.clone(), "transpose": x.T}[function]
    y.retain_grad()
    (y * 2).sum().backward()
    y.grad.zero_()
    assert x.grad.tolist() == [[2, 2], [2, 2]]


def layouts(array: np.ndarray):
    read_only = array.copy()
    read_only.flags.writeable = False
    doubled = np.repeat(array, 2, axis=-1)
    return {
        "transposed": np.ascontiguousarray(array.T).T,
        "strided": doubled[..., ::2],
        "reversed": np.ascontiguousarray(array[::-1])[::-1],
        "read-only": read_only,
    }


FUNCTIONS = {
    "mul": lambda x: x * x,
    "exp": lambda x: x.exp(),
    "sum": lambda x: x.sum(0),
    "matmul": lambda x: x @ x.T,
    "index": lambda x: x[[0, 2, 2], 1:],
    "relu": lambda x: x.relu(),
    "softmax": lambda x: x.softmax(1),
    "max": lambda x: x.max(1)[0],
    "reshape": lambda x: x.reshape(6, 2),
    "cat": lambda x: tinynet.cat([x, x * 2]),
}


@pytest.mark.parametrize("layout", ["transposed", "strided", "reversed", "read-only"])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_fault_12_other_layouts_give_the_same(name: str, layout: str) -> None:
    plain = np.random.default_rng(0).standard_normal((3, 4))
    results = []
    for array in (plain, layouts(plain)[layout]):
        x = tinynet.from_numpy(array).requires_grad_()
        y = FUNCTIONS[name](x)
        y.backward(tinynet.from_numpy(np.random.default_rng(1).standard_normal(tuple(y.shape))))
        results.append((y, x.grad))
    assert_close(results[1][0], results[0][0], "value")
    assert_close(results[1][1], results[0][1], "gradient")


def test_fault_12_zero_strides() -> None:
    row = leaf(1, 4)
    full = tinynet.from_numpy(np.repeat(row.detach().numpy(), 3, 0)).requires_grad_()
    expanded = row.expand(3, 4)
    assert expanded.stride()[0] == 0
    for x in (full, expanded):
        (x * x).sum().backward()
    assert_close(row.grad, full.grad.sum(0, keepdim=True))


def test_fault_12_a_read_only_array_is_not_written() -> None:
    array = np.ones(3)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        tinynet.from_numpy(array).add_(1)
    with pytest.raises(RuntimeError, match="expand"):
        tinynet.ones(1, 3).expand(2, 3).add_(1)


@pytest.mark.parametrize(
    "scalar", [2.0, np.float64(2), np.float32(2), 2, np.int64(2), True], ids=lambda s: type(s).__name__
)
def test_fault_13_scalars_keep_float32(scalar) -> None:
    x = tinynet.ones(3, requires_grad=True)
    results = [x + scalar, scalar + x, x * scalar, scalar * x, x - scalar, scalar - x, x / scalar, scalar / x]
    results += [x**scalar, scalar**x, tinynet.maximum(x, tinynet.tensor(2.0)), x.clamp(max=scalar)]
    for result in results:
        assert isinstance(result, tinynet.Tensor) and result.dtype == tinynet.float32
    sum(result.sum() for result in results).backward()
    assert x.grad.dtype == tinynet.float32


def test_fault_13_a_0d_float64_tensor_keeps_float32_too() -> None:
    assert (tinynet.ones(3) * tinynet.tensor(2.0, dtype=tinynet.float64)).dtype == tinynet.float32
    assert (tinynet.ones(3) * tinynet.ones(1, dtype=tinynet.float64)).dtype == tinynet.float64


def test_fault_14_nan_stays_nan() -> None:
    nan = float("nan")
    x = tinynet.tensor([[[[nan, 1.0], [2.0, 3.0]]]])
    functional = tinynet.nn.functional
    assert np.isnan(tinynet.tensor([nan]).relu().item())
    assert np.isnan(functional.relu(x)[0, 0, 0, 0].item())
    for pooled in (functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2), functional.adaptive_avg_pool2d(x, 1)):
        assert np.isnan(pooled.item())
    assert np.isnan(tinynet.tensor([nan, 1.0]).max().item())
    assert np.isnan(tinynet.maximum(tinynet.tensor([nan]), tinynet.ones(1)).item())
    assert np.isnan(tinynet.tensor([nan]).clamp(0, 1).item())


def test_fault_15_memory() -> None:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        x = tinynet.ones(500_000, requires_grad=True)
        y = x
        base = tracemalloc.get_traced_memory()[0]
        for _ in range(44):
            y = y.tanh()  # saves its output: 2 MB each
        graph = tracemalloc.get_traced_memory()[0] - base
        assert 86e6 < graph < 92e6
        loss = y.sum()
        del y
        tracemalloc.reset_peak()
        loss.backward()
        peak = tracemalloc.get_traced_memory()[1] - base
        assert peak <= 1.3 * 88e6
        left = tracemalloc.get_traced_memory()[0] - base
        assert left <= 2e6 + 1e5, f"{left / 1e6:.1f} MB left, the gradient has 2.0 MB"
        assert x.grad is not None and loss.requires_grad
    finally:
        tracemalloc.stop()
        gc.enable()


def test_fault_15_a_graph_dropped_without_backward() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        y = x.exp()
        loss = (y * y).sum()
        array = weakref.ref(y._array)
        del y, loss
        assert array() is None
    finally:
        gc.enable()


def training_step(model: tinynet.nn.Module) -> None:
    model.zero_grad()
    outputs = model(tinynet.randn(5, 4))
    tinynet.nn.functional.cross_entropy(outputs, tinynet.tensor([0, 1, 0, 1, 0])).backward()


def test_fault_15_a_training_step_leaves_no_cycle() -> None:
    model = tinynet.nn.Sequential(tinynet.nn.Linear(4, 8), tinynet.nn.ReLU(), tinynet.nn.Linear(8, 2))
    training_step(model)  # compiles, which leaves garbage of its own
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            training_step(model)
        assert gc.collect() == 0
    finally:
        gc.enable()
