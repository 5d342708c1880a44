"""Hooks on modules: order, replacement, removal, and gradients as torch hands them over."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.nn.models import image, net, same_weights, tensor
from tinynet import nn


@pytest.mark.torch
def test_order_and_replacement_are_those_of_torch(torch):
    def record(lib):
        events = []
        layer = lib.nn.Identity()
        layer.register_forward_pre_hook(lambda m, args: events.append("pre 1"))
        layer.register_forward_pre_hook(lambda m, args: args[0] + 1)  # a bare value becomes the one argument
        layer.register_forward_pre_hook(lambda m, args: events.append("pre first"), prepend=True)
        layer.register_forward_hook(lambda m, args, out: events.append(("post 1", args[0].item(), out.item())))
        layer.register_forward_hook(lambda m, args, out: out * 10)
        layer.register_forward_hook(lambda m, args, out: events.append(("post 2", out.item())))
        handle = layer.register_forward_hook(lambda m, args, out: events.append("never"))
        handle.remove()
        handle.remove()
        with layer.register_forward_hook(lambda m, args, out: events.append("scoped")):
            layer(lib.ones(1))
        return events, layer(lib.ones(1)).item()

    assert record(tinynet) == record(torch)


def test_keyword_hooks_see_and_replace_keywords():
    class Scale(nn.Module):
        def forward(self, x, factor=1.0):
            return x * factor

    module, seen = Scale(), []
    module.register_forward_pre_hook(lambda m, a, k: (a, {"factor": k["factor"] + 1}), with_kwargs=True)
    module.register_forward_hook(lambda m, a, k, out: seen.append(k["factor"]), with_kwargs=True)
    assert module(tinynet.ones(1), factor=2.0).item() == 3.0
    assert seen == [3.0]
    module.register_forward_pre_hook(lambda m, a, k: 5, with_kwargs=True)
    with pytest.raises(RuntimeError, match="tuple"):
        module(tinynet.ones(1), factor=2.0)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("input_requires_grad", [True, False])
def test_backward_hooks_see_the_gradients_that_torch_shows(torch, input_requires_grad):
    def gradients(lib, model):
        seen = {}
        for name, module in model.named_modules():
            module.register_full_backward_hook(
                lambda m, grad_in, grad_out, name=name: seen.__setitem__(name, (grad_in, grad_out))
            )
        x = lib.from_numpy(image(2, 3, 8, 8).astype(np.float64)).requires_grad_(input_requires_grad)
        y = model(x)
        y.backward(lib.from_numpy(image(*y.shape, seed=3).astype(np.float64)))
        return seen, x.grad

    ours, theirs = net(nn, inplace=False), net(torch.nn, inplace=False)  # torch refuses in-place ones here
    same_weights(torch, ours, theirs)
    (actual, x_grad), (expected, their_grad) = gradients(tinynet, ours.double()), gradients(torch, theirs.double())
    assert list(actual) == list(expected) and len(actual) > 10
    for name in expected:
        for side in (0, 1):
            assert len(actual[name][side]) == len(expected[name][side])
            for mine, reference in zip(actual[name][side], expected[name][side]):
                assert (mine is None) == (reference is None), name
                if reference is not None:
                    assert_close(mine, reference, name)
    if input_requires_grad:
        assert_close(x_grad, their_grad)


@pytest.mark.torch
def test_backward_hooks_on_several_inputs_and_outputs(torch):
    def run(lib):
        class Mixed(lib.nn.Module):
            def forward(self, a, number, b):
                return a * b, a + number

        module, seen = Mixed(), []
        module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        module.register_full_backward_hook(lambda m, gi, go: (gi[0] * 100, None, gi[2]))
        a = lib.ones(2).requires_grad_()
        b = lib.full((2,), 3.0).requires_grad_()
        product, total = module(a, 7, b)
        (product * total).sum().backward()
        plain = [[None if g is None else g.tolist() for g in side] for side in seen[0]]
        return plain, a.grad.tolist(), b.grad.tolist(), len(seen)

    assert run(tinynet) == run(torch)


def test_a_backward_hook_sees_only_what_went_through_its_module():
    layer, seen = nn.Identity(), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(gi[0].tolist()))
    x = tinynet.ones(1).requires_grad_()
    (layer(x) * 2 + x * 5).sum().backward()
    assert seen == [[2.0]] and x.grad.tolist() == [7.0]


def test_backward_hooks_around_in_place_modules_change_no_gradient():
    plain = net(nn)
    watched, seen = copy.deepcopy(plain), []
    for module in watched.modules():
        module.register_full_backward_hook(lambda m, gi, go: seen.append(m))
    for model in (plain, watched):
        y = model(tensor(2, 3, 8, 8).requires_grad_())
        y.backward(tensor(*y.shape, seed=4))
    assert len(seen) == len(list(watched.modules())) + 1  # the ReLU runs twice
    for (name, expected), parameter in zip(plain.named_parameters(), watched.parameters()):
        assert np.array_equal(parameter.grad.numpy(), expected.grad.numpy()), name


def test_an_in_place_change_behind_a_backward_hook_is_noticed():
    layer = nn.ReLU(inplace=True)
    layer.register_full_backward_hook(lambda m, gi, go: None)
    x = tinynet.tensor([-1.0, 2.0]).requires_grad_()
    needed = (x * 3).tanh()  # tanh needs its own result, which the layer overwrites
    y = layer(needed)
    with pytest.raises(RuntimeError, match="in place"):
        y.sum().backward()
    assert x.grad is None


def test_wrong_replacements_are_refused():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError, match=r"returned 2 gradients for 1 inputs"):
        layer(tensor(1, 2).requires_grad_()).sum().backward()
    with pytest.raises(TypeError, match="callable"):
        layer.register_forward_hook("hook")


def test_hooks_without_grad_and_in_copies():
    layer, seen = nn.Linear(2, 2), []
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    layer.register_forward_hook(lambda *_: seen.append("forward"))
    with tinynet.no_grad():
        layer(tensor(1, 2))
    assert seen == ["forward"]
    twin = copy.deepcopy(layer)
    twin(tensor(1, 2)).sum().backward()
    assert seen == ["forward", "forward", "backward"]
