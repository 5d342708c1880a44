"""Gradients on request, grad modes, hooks, anomaly mode."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tinynet
from tests.leaves import leaf, leaf_of

# --- gradients on request -----------------------------------------------------------------------------------------


def test_grad_returns_and_accumulates_nothing() -> None:
    x, w = leaf_of([1.0, 2.0]), leaf_of([3.0, 4.0])
    loss = (x * x * w).sum()
    gx, gw = tinynet.autograd.grad(loss, [x, w])
    assert gx.tolist() == [6.0, 16.0] and gw.tolist() == [1.0, 4.0]
    assert x.grad is None and w.grad is None


def test_grad_of_an_intermediate_result() -> None:
    x = leaf_of([1.0, 2.0])
    y = x * 3
    (gy,) = tinynet.autograd.grad((y * y).sum(), y)
    assert gy.tolist() == [6.0, 12.0]


def test_grad_of_several_outputs_with_cotangents() -> None:
    x = leaf_of([1.0, 2.0])
    (gx,) = tinynet.autograd.grad([x * 2, x * x], [x], [tinynet.ones(2), tinynet.tensor([10.0, 100.0])])
    assert gx.tolist() == [22.0, 402.0]


def test_grad_of_an_unused_input() -> None:
    x, unused = leaf(2), leaf(2)
    with pytest.raises(RuntimeError, match="unused"):
        tinynet.autograd.grad(x.sum(), [x, unused])
    gx, none = tinynet.autograd.grad(x.sum(), [x, unused], allow_unused=True)
    assert gx.tolist() == [1, 1] and none is None
    _, zeros = tinynet.autograd.grad(x.sum(), [x, unused], allow_unused=True, materialize_grads=True)
    assert zeros.tolist() == [0, 0]


def test_grad_of_the_output_itself() -> None:
    x = leaf_of([2.0])
    y = x * 3
    assert tinynet.autograd.grad(y, y)[0].tolist() == [1.0]


def test_a_hook_of_an_unneeded_branch_does_not_run() -> None:
    x = leaf(2)
    calls = []
    y = x * 2
    y.register_hook(lambda g: calls.append(g))
    (x * 3).sum().backward()
    assert calls == []


def test_backward_on_a_leaf() -> None:
    x = leaf_of([2.0])
    x.backward()
    x.backward()
    assert x.grad.tolist() == [2.0]


def test_backward_for_some_inputs_only() -> None:
    x, w = leaf(2), leaf(2)
    (x * w).sum().backward(inputs=[x])
    assert x.grad is not None and w.grad is None


def test_gradients_accumulate_until_they_are_cleared() -> None:
    x = leaf_of([1.0])
    for _ in range(3):
        (x * 2).backward()
    assert x.grad.tolist() == [6.0]
    x.grad = None
    (x * 2).backward()
    assert x.grad.tolist() == [2.0]


def test_grad_can_only_be_what_fits() -> None:
    x = leaf(2)
    with pytest.raises(RuntimeError, match=r"3.*2"):
        x.grad = tinynet.zeros(3).double()
    with pytest.raises((TypeError, RuntimeError), match="float32"):
        x.grad = tinynet.zeros(2)
    with pytest.raises(TypeError):
        x.grad = 1.0


# --- modes -------------------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad() -> None:
    x = leaf(2)
    with tinynet.no_grad():
        assert not tinynet.is_grad_enabled() and not (x * 2).requires_grad
        with tinynet.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
        assert tinynet.zeros(1, requires_grad=True).requires_grad
    assert (x * 2).requires_grad
    with tinynet.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    with tinynet.inference_mode():
        assert not (x * 2).requires_grad


def test_modes_as_decorators_and_after_errors() -> None:
    x = leaf(2)

    @tinynet.no_grad()
    def constant():
        return x * 2

    assert not constant().requires_grad and tinynet.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), tinynet.no_grad():
        1 / 0  # noqa: B018
    assert tinynet.is_grad_enabled()


def test_grad_mode_belongs_to_the_thread() -> None:
    seen = []
    with tinynet.no_grad():
        thread = threading.Thread(target=lambda: seen.append(tinynet.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach() -> None:
    x = leaf_of([1.0, 2.0])
    y = (x * 2).detach()
    assert not y.requires_grad and y.is_leaf and y.grad_fn is None
    (x * y).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_requires_grad_of_results() -> None:
    x = leaf(2)
    assert (x * 2).requires_grad and not (x > 0).requires_grad and not x.argmax().requires_grad
    assert not x.max(0)[1].requires_grad and x.max(0)[0].requires_grad
    assert not x.long().requires_grad
    with pytest.raises(RuntimeError, match="detach"):
        (x * 2).requires_grad_(False)
    with pytest.raises(RuntimeError, match="detach"):
        x.numpy()


# --- hooks -------------------------------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf_of([1.0, 2.0])
    seen = []
    y = x * 3
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    y.sum().backward(retain_graph=True)
    assert seen == [[1.0, 1.0]] and x.grad.tolist() == [31.0, 31.0]
    handle.remove()
    y.sum().backward()
    assert len(seen) == 1


def test_a_hook_of_a_leaf_runs_once_on_the_whole_gradient() -> None:
    x = leaf_of([1.0])
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3).backward()
    assert seen == [5.0]


def test_a_hook_that_keeps_its_gradient() -> None:
    x = leaf_of([1.0, 2.0])
    kept = []
    x.register_hook(kept.append)
    for _ in range(2):
        (x * 2).sum().backward()
    assert [g.tolist() for g in kept] == [[2.0, 2.0], [2.0, 2.0]]


def test_a_hook_with_a_wrong_shape() -> None:
    x = leaf(2)
    x.register_hook(lambda g: g[:1])
    with pytest.raises(RuntimeError, match="hook"):
        x.sum().backward()


def test_a_hook_needs_a_gradient_to_come() -> None:
    with pytest.raises(RuntimeError, match="require"):
        tinynet.ones(2).register_hook(print)


def test_retain_grad() -> None:
    x = leaf_of([1.0, 2.0])
    y = x * 3
    y.retain_grad()
    y.retain_grad()
    z = y * y
    z.sum().backward()
    assert y.grad.tolist() == [6.0, 12.0] and y.retains_grad
    assert z.grad is None
    with pytest.raises(RuntimeError, match="require"):
        tinynet.ones(1).retain_grad()


# --- anomaly mode -------------------------------------------------------------------------------------------------


def test_anomaly_names_the_operation_and_its_call() -> None:
    x = leaf_of([-1.0, 4.0])
    with tinynet.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"(?is)sqrt.*nan.*test_autograd"):
        (x.sqrt() * 0).sum().backward()
    x.grad = None
    (x.sqrt() * 0).sum().backward()  # quiet without it
    assert np.isnan(x.grad.tolist()[0])


def test_anomaly_ends_with_its_block() -> None:
    with pytest.raises(ZeroDivisionError), tinynet.autograd.detect_anomaly():
        1 / 0  # noqa: B018
    x = leaf_of([-1.0])
    x.sqrt().backward()


def test_anomaly_accepts_a_correct_graph() -> None:
    x = leaf(3, 4)
    with tinynet.autograd.detect_anomaly():
        ((x @ x.T).relu().softmax(1)[0] * 2).sum().backward()
    assert x.grad is not None
