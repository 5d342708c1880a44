"""SGD, Adam and AdamW: torch's trajectories, states that continue exactly, and explained refusals."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

import tinynet
from tinynet.optim import SGD, Adam, AdamW, Optimizer
from tinynet.optim import optimizer as optimizer_module

SHAPES = [(3, 2, 3, 3), (5,), ()]
STEPS = 20
SGD_OPTIONS = [
    {"lr": 0.1, "momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov,
     "maximize": maximize}
    for momentum, dampening, decay, nesterov, maximize in
    itertools.product((0, 0.9), (0, 0.3), (0, 0.05), (False, True), (False, True))
    if not nesterov or (momentum and not dampening)
]
ADAM_OPTIONS = [
    {"lr": 0.01, "betas": betas, "eps": eps, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for betas, eps, decay, amsgrad, maximize in
    itertools.product(((0.9, 0.999), (0.0, 0.9)), (1e-8, 1e-2), (0, 0.1), (False, True), (False, True))
]
CASES = ([("SGD", options) for options in SGD_OPTIONS]
         + [(name, options) for name in ("Adam", "AdamW") for options in ADAM_OPTIONS])


def drawn(seed, dtype=np.float64):
    random = np.random.default_rng(seed)
    return [np.asarray(random.standard_normal(shape), dtype) for shape in SHAPES]


def parameters(dtype=np.float64):
    return [tinynet.tensor(array).requires_grad_() for array in drawn(0, dtype)]


def set_gradients(params, seed):
    for parameter, array in zip(params, drawn(seed, params[0].detach().numpy().dtype)):
        parameter.grad = tinynet.tensor(array)


def run(optimizer, params, seeds):
    for seed in seeds:
        set_gradients(params, seed)
        optimizer.step()
    return [p.detach().numpy().copy() for p in params]


@pytest.mark.torch
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("name, options", CASES)
def test_trajectory_is_torchs(name, options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    ours, theirs = parameters(dtype), [torch.tensor(array, requires_grad=True) for array in drawn(0, dtype)]
    optimizer = getattr(tinynet.optim, name)(ours, **options)
    reference = getattr(torch.optim, name)(theirs, **options)
    for seed in range(1, STEPS + 1):
        set_gradients(ours, seed)
        for parameter, array in zip(theirs, drawn(seed, dtype)):
            parameter.grad = torch.tensor(array)
        optimizer.step()
        reference.step()
        for p, q in zip(ours, theirs):
            assert p.detach().numpy().dtype == dtype
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=tolerance, atol=tolerance)
    saved, expected = optimizer.state_dict(), reference.state_dict()
    assert saved["state"].keys() == expected["state"].keys()
    for index, values in expected["state"].items():
        assert saved["state"][index].keys() == {key for key, value in values.items() if value is not None}
        for key, value in saved["state"][index].items():
            assert str(value.dtype).split(".")[1] == str(values[key].dtype).split(".")[1]
            np.testing.assert_allclose(value.numpy(), values[key].numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_defaults_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours = getattr(tinynet.optim, name)(parameters()).defaults
    theirs = getattr(torch.optim, name)([torch.zeros(1)]).defaults
    assert ours == {key: theirs[key] for key in ours}


@pytest.mark.torch
def test_state_moves_between_torch_and_tinynet():
    torch = pytest.importorskip("torch")
    ours, theirs = parameters(), [torch.tensor(array, requires_grad=True) for array in drawn(0)]
    reference = torch.optim.AdamW(theirs, lr=0.02)
    for parameter, array in zip(theirs, drawn(1)):
        parameter.grad = torch.tensor(array)
    reference.step()
    state = reference.state_dict()
    state["state"] = {i: {key: value.numpy() for key, value in values.items()}
                      for i, values in state["state"].items()}
    optimizer = AdamW(ours, lr=0.5)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert float(optimizer.state[ours[0]]["step"]) == 1


@pytest.mark.parametrize("make", [
    lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    lambda p: Adam(p, amsgrad=True),
    lambda p: AdamW(p, lr=0.01),
])
def test_resuming_gives_the_same_bits(make):
    straight = parameters(np.float32)
    expected = run(make(straight), straight, range(1, 11))

    first = parameters(np.float32)
    optimizer = make(first)
    run(optimizer, first, range(1, 6))
    saved = optimizer.state_dict()
    groups = json.loads(json.dumps(saved["param_groups"]))
    second = [p.detach().clone().requires_grad_() for p in first]
    resumed = make(second)
    resumed.load_state_dict({"state": saved["state"], "param_groups": groups})
    assert resumed.param_groups[0].items() >= optimizer.defaults.items()  # betas are a tuple again
    run(optimizer, first, [99])  # the state was copied
    for got, wanted in zip(run(resumed, second, range(6, 11)), expected):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), lambda p: Adam(p)])
def test_blocks_give_the_same_bits_as_whole_arrays(make, monkeypatch):
    expected = run(make(params := parameters(np.float32)), params, range(1, 4))
    monkeypatch.setattr(optimizer_module, "_BLOCK", 7)
    for got, wanted in zip(run(make(params := parameters(np.float32)), params, range(1, 4)), expected):
        np.testing.assert_array_equal(got, wanted)


def test_strided_parameters_and_gradients():
    array = np.random.default_rng(0).standard_normal((4, 6))
    gradient = np.random.default_rng(1).standard_normal((6, 4))
    plain = tinynet.tensor(array.copy()).requires_grad_()
    strided = tinynet.from_numpy(np.asfortranarray(array)).requires_grad_()
    plain.grad, strided.grad = tinynet.tensor(gradient.T.copy()), tinynet.from_numpy(gradient).t()
    for parameter in (plain, strided):
        optimizer = SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.1)
        optimizer.step()
        optimizer.step()
    np.testing.assert_array_equal(plain.detach().numpy(), strided.detach().numpy())


@pytest.mark.parametrize("make", [
    lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), lambda p: SGD(p, lr=0.1, maximize=True),
    lambda p: Adam(p, weight_decay=0.1), lambda p: AdamW(p, maximize=True),
])
def test_gradients_are_only_read_and_never_become_state(make):
    params = parameters()
    optimizer = make(params)
    set_gradients(params, 1)
    before = [p.grad.numpy().copy() for p in params]
    optimizer.step()
    for p, gradient in zip(params, before):
        np.testing.assert_array_equal(p.grad.numpy(), gradient)
        for value in optimizer.state[p].values():
            assert not np.shares_memory(value.numpy(), p.grad.numpy())


def test_update_is_in_place_and_counted():
    params = parameters()
    arrays, versions = [p.detach().numpy() for p in params], [p._version for p in params]
    run(SGD(params, lr=0.1), params, [1])
    for p, array, version in zip(params, arrays, versions):
        assert p.detach().numpy() is array
        assert p._version == version + 1
        assert p.requires_grad and p.is_leaf


def test_stale_graph_after_a_step_is_refused():
    weight = tinynet.tensor([2.0]).requires_grad_()
    loss = (weight * weight).sum()
    weight.grad = tinynet.tensor([1.0])
    SGD([weight], lr=0.1).step()
    with pytest.raises(RuntimeError):
        loss.backward()


def test_parameters_without_gradient_are_skipped():
    params = parameters()
    params[0].grad = tinynet.zeros_like(params[0].detach()) + 1
    before = params[1].detach().numpy().copy()
    optimizer = Adam(params)
    optimizer.step()
    np.testing.assert_array_equal(params[1].detach().numpy(), before)
    assert set(optimizer.state) == {params[0]}


@pytest.mark.parametrize("make, options", [
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}), (Adam, {"lr": 0.1, "weight_decay": 0.1, "eps": 1e-8}),
])
def test_numpy_scalars_do_not_raise_the_dtype(make, options):
    params, same = parameters(np.float32), parameters(np.float32)
    optimizer = make(params, **{name: np.float64(value) for name, value in options.items()})
    for got, expected in zip(run(optimizer, params, range(1, 6)), run(make(same, **options), same, range(1, 6))):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == np.float32
    assert all(value.dtype == tinynet.float32 for state in optimizer.state.values() for value in state.values())


def test_groups_have_their_own_options():
    params = parameters()
    optimizer = SGD([{"params": params[:1], "lr": 0.5}, {"params": params[1]}], lr=0.0)
    optimizer.add_param_group({"params": params[2], "lr": 0.25})
    before = [p.detach().numpy().copy() for p in params]
    set_gradients(params, 1)
    optimizer.step()
    for p, old, lr in zip(params, before, (0.5, 0.0, 0.25)):
        np.testing.assert_allclose(p.detach().numpy(), old - lr * p.grad.numpy(), rtol=1e-15)
    assert [group["params"] for group in optimizer.state_dict()["param_groups"]] == [[0], [1], [2]]
    assert "Parameter Group 2: 1 tensors" in repr(optimizer)


def test_closure_runs_with_gradients_and_returns_the_loss():
    weight = tinynet.tensor([3.0]).requires_grad_()
    optimizer = SGD([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    with tinynet.no_grad():
        assert optimizer.step(closure).item() == 9.0
    np.testing.assert_allclose(weight.detach().numpy(), [2.4], rtol=1e-6)


def test_zero_grad():
    params = parameters()
    set_gradients(params[:2], 1)
    optimizer = SGD(params)
    optimizer.zero_grad(set_to_none=False)
    assert params[2].grad is None
    assert all((p.grad.numpy() == 0).all() for p in params[:2])
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_a_subclass_may_override_step():
    class Sign(Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with tinynet.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad.sign() * group["lr"])

    weight = tinynet.tensor([1.0, -1.0]).requires_grad_()
    weight.grad = tinynet.tensor([3.0, -5.0])
    Sign([weight], lr=0.5).step()
    np.testing.assert_array_equal(weight.detach().numpy(), [0.5, -0.5])


def test_no_parameters():
    for empty in ([], iter([]), [{"params": []}]):
        with pytest.raises(ValueError, match=r"empty|no parameters"):
            SGD(empty, lr=0.1)


def test_duplicate_parameters_are_named():
    p, q, _ = parameters()
    with pytest.raises(ValueError, match=r"parameter 2 of group 0 is also parameter 0 of group 0"):
        SGD([p, q, p], lr=0.1)
    optimizer = SGD([p], lr=0.1)
    with pytest.raises(ValueError, match=r"parameter 0 of group 1 is also parameter 0 of group 0"):
        optimizer.add_param_group({"params": [p]})
    assert len(optimizer.param_groups) == 1


def test_things_that_are_no_parameters():
    leaf = parameters()[0]
    for wrong in (leaf, "weights"):
        with pytest.raises(TypeError, match="iterable"):
            SGD(wrong, lr=0.1)
    with pytest.raises(TypeError, match="ndarray"):
        SGD([np.zeros(3)], lr=0.1)
    with pytest.raises(TypeError, match="set"):
        SGD([{"params": {leaf}}], lr=0.1)
    with pytest.raises(ValueError, match="not a leaf"):
        SGD([leaf * 2], lr=0.1)


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
@pytest.mark.parametrize("options", [{"lr": -1.0}, {"lr": math.nan}, {"lr": math.inf}, {"weight_decay": -0.1}])
def test_illegal_options(make, options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{make.__name__}: {name} must be .*{value}"):
        make(parameters(), **options)
    with pytest.raises(ValueError, match=name):
        make([{"params": parameters(), **options}])


@pytest.mark.parametrize("make, options", [
    (SGD, {"momentum": -0.1}), (SGD, {"nesterov": True}),
    (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    (Adam, {"betas": (1.0, 0.9)}), (Adam, {"betas": (0.9, -0.1)}), (Adam, {"betas": (0.9,)}), (AdamW, {"eps": -1}),
])
def test_more_illegal_options(make, options):
    with pytest.raises(ValueError, match=f"{make.__name__}: "):
        make(parameters(), **options)


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
def test_lr_zero_is_legal(make):
    params = parameters()
    before = [p.detach().numpy().copy() for p in params]
    for got, old in zip(run(make(params, lr=0), params, [1, 2]), before):
        np.testing.assert_array_equal(got, old)


def test_stale_state_shape_on_load_lists_all_and_changes_nothing():
    params = parameters()
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    run(optimizer, params, [1])
    others = [tinynet.zeros(2, 2).requires_grad_(), tinynet.zeros(7).requires_grad_(),
              tinynet.zeros(()).requires_grad_()]
    other = SGD(others, lr=0.3, momentum=0.9)
    with pytest.raises(ValueError) as caught:
        other.load_state_dict(optimizer.state_dict())
    assert "momentum_buffer of parameter 0 has shape (3, 2, 3, 3), the parameter (2, 2)" in str(caught.value)
    assert "parameter 1" in str(caught.value)
    assert not other.state and other.param_groups[0]["lr"] == 0.3


def test_stale_state_shape_on_step():
    weight = tinynet.zeros(3).requires_grad_()
    optimizer = Adam([weight])
    weight.grad = tinynet.ones(3)
    optimizer.step()
    weight.grad = None
    weight.data = tinynet.zeros(4)
    weight.grad = tinynet.ones(4)
    with pytest.raises(ValueError, match=r"parameter 0 of group 0 has shape \(4,\), its exp_avg \(3,\)"):
        optimizer.step()


def test_state_of_other_groups():
    params = parameters()
    state = SGD(params, lr=0.1).state_dict()
    with pytest.raises(ValueError, match="1 parameter groups, this optimizer 2"):
        SGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.1).load_state_dict(state)
    with pytest.raises(ValueError, match="3 parameters in the state and 2 here"):
        SGD(params[:2], lr=0.1).load_state_dict(state)
    with pytest.raises(ValueError, match="param_groups"):
        SGD(params, lr=0.1).load_state_dict({"state": {}})
    with pytest.raises(ValueError, match="parameter 7"):
        SGD(params, lr=0.1).load_state_dict({**state, "state": {7: {}}})


def test_read_only_memory_is_explained():
    array = np.zeros(3)
    array.setflags(write=False)
    weight = tinynet.Tensor(array).requires_grad_()
    weight.grad = tinynet.ones(3, dtype=tinynet.float64)
    with pytest.raises(ValueError, match="read-only"):
        SGD([weight], lr=0.1).step()
