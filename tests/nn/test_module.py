"""Registration, walking, modes, conversions, copies and reprs of modules, against torch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinynet
from tests.nn.models import arrays, block, net, tensor
from tinynet import nn


@pytest.mark.torch
@pytest.mark.parametrize("build", [block, net])
def test_names_and_order_are_those_of_torch(torch, build):
    ours, theirs = build(nn), build(torch.nn)
    for method in ("named_parameters", "named_buffers", "named_children", "named_modules"):
        expected = [name for name, _ in getattr(theirs, method)()]
        assert [name for name, _ in getattr(ours, method)()] == expected, method
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters("model", recurse=False)] == [
        n for n, _ in theirs.named_parameters("model", recurse=False)
    ]
    for name, value in theirs.state_dict().items():
        mine = ours.state_dict()[name]
        assert tuple(mine.shape) == tuple(value.shape)
        assert str(mine.dtype).split(".")[-1] == str(value.dtype).split(".")[-1]
    assert {k: dict(v) for k, v in ours.state_dict()._metadata.items()} == {
        k: dict(v) for k, v in theirs.state_dict()._metadata.items()
    }


@pytest.mark.torch
@pytest.mark.parametrize("build", [block, net])
def test_repr_is_that_of_torch(torch, build):
    assert repr(build(nn)) == repr(build(torch.nn))


@pytest.mark.torch
def test_shared_members_are_listed_as_in_torch(torch):
    def build(nn):
        first = nn.Linear(2, 2)
        second = nn.Linear(2, 2)
        second.weight = first.weight
        return nn.ModuleList([first, second, first])

    ours, theirs = build(nn), build(torch.nn)
    for keep in (True, False):
        for method in ("named_parameters", "named_modules"):
            listed, expected = ([n for n, _ in getattr(m, method)(remove_duplicate=keep)] for m in (ours, theirs))
            assert listed == expected
    assert len(list(ours.parameters())) == 3
    assert len(list(ours.children())) == 2
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_attributes_move_between_registries():
    module = nn.Module()
    module.thing = nn.Parameter(np.zeros(2, np.float32))
    assert list(dict(module.named_parameters())) == ["thing"]
    module.thing = nn.Linear(1, 1)
    assert not module._parameters and list(module._modules) == ["thing"]
    module.thing = nn.Parameter(np.zeros(3, np.float32))
    assert not module._modules and module.thing.shape == (3,)
    del module.thing
    assert not hasattr(module, "thing")
    module.register_buffer("kept", tinynet.zeros(1))
    module.register_buffer("passing", tinynet.zeros(1), persistent=False)
    assert list(module.state_dict()) == ["kept"]
    module.kept = tinynet.ones(4)
    assert module.state_dict()["kept"].shape == (4,)
    module.plain = tinynet.ones(1)
    assert "plain" not in module.state_dict()
    module.passing = nn.Parameter(np.zeros(1, np.float32))
    assert "passing" in module.state_dict()
    module.plain = nn.Parameter(np.zeros(5, np.float32))  # replaces the plain attribute of that name
    assert module.plain.shape == (5,) and "plain" in module.state_dict()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("weight", "text", TypeError),
        ("weight", tinynet.zeros(1), TypeError),
        ("child", 3, TypeError),
        ("buffer", [1.0], TypeError),
        ("forward", nn.Parameter(np.zeros(1, np.float32)), KeyError),
    ],
)
def test_wrong_assignments_are_refused(name, value, error):
    module = nn.Module()
    module.weight = nn.Parameter(np.zeros(1, np.float32))
    module.child = nn.Linear(1, 1)
    module.register_buffer("buffer", tinynet.zeros(1))
    with pytest.raises(error, match=name):
        setattr(module, name, value)


@pytest.mark.parametrize(("name", "error"), [("", KeyError), ("a.b", KeyError), (3, TypeError), ("training", KeyError)])
def test_wrong_names_are_refused(name, error):
    for register in ("register_parameter", "register_buffer", "add_module"):
        with pytest.raises(error):
            getattr(nn.Module(), register)(name, None)


def test_registering_what_does_not_fit_is_refused():
    module = nn.Module()
    with pytest.raises(TypeError, match="Parameter"):
        module.register_parameter("p", tinynet.zeros(1))
    with pytest.raises(TypeError, match="Tensor"):
        module.register_buffer("b", np.zeros(1))
    with pytest.raises(TypeError, match="Module"):
        module.add_module("m", tinynet.zeros(1))


def test_a_forgotten_super_init_is_explained():
    class Forgetful(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 1, 1)

    class Silent(nn.Module):
        def __init__(self):
            pass

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call.*Forgetful"):
        Forgetful()
    with pytest.raises(AttributeError, match=r"Silent.__init__ must start with super"):
        Silent()(1)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = nn.Linear(1, 1).nothing
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_paths_lead_to_members():
    model = net(nn)
    assert model.get_submodule("block.downsample.1") is model.block.downsample[1]
    assert model.get_submodule("") is model
    assert model.get_parameter("head.weight") is model.head.weight
    assert model.get_buffer("block.bn1.running_var") is model.block.bn1.running_var
    for call, text in (
        (lambda: model.get_submodule("block.nothing"), "Block has no attribute `nothing`"),
        (lambda: model.get_submodule("head.weight"), "`weight` is not an nn.Module"),
        (lambda: model.get_parameter("block.bn1.running_var"), "`running_var` is not an nn.Parameter"),
        (lambda: model.get_buffer("head.weight"), "`weight` is not a buffer"),
        (lambda: model.get_parameter("head.nothing"), "Linear has no attribute `nothing`"),
    ):
        with pytest.raises(AttributeError, match=text):
            call()
    assert {"head", "block", "training", "forward"} <= set(dir(model))


def test_modes_freezing_and_apply():
    model = net(nn)
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert model.train() is model and all(m.training for m in model.modules())
    with pytest.raises(ValueError, match="boolean"):
        model.train(1)
    assert model.requires_grad_(False) is model
    assert not any(p.requires_grad for p in model.parameters())
    seen = []
    assert model.apply(seen.append) is model
    assert seen[-1] is model and seen[0] is model.stem[0]


def test_zero_grad():
    layer = nn.Linear(2, 1)
    layer(tensor(3, 2)).sum().backward()
    grad = layer.weight.grad
    assert grad.abs().sum().item() > 0
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.abs().sum().item() == 0
    layer.zero_grad()
    assert layer.weight.grad is None


def test_conversions_keep_the_parameters_and_integer_buffers():
    model = net(nn)
    weight = model.head.weight
    model(tensor(2, 3, 6, 6)).sum().backward()
    for convert in (nn.Module.double, lambda m: m.to(tinynet.float64), lambda m: m.to(device="cpu", dtype="float64")):
        model.float()
        assert convert(model) is model
        assert model.head.weight is weight and isinstance(weight, nn.Parameter) and weight.requires_grad
        assert weight.dtype == weight.grad.dtype == tinynet.float64
        assert model.block.bn1.running_mean.dtype == tinynet.float64
        assert model.block.bn1.num_batches_tracked.dtype == tinynet.int64
    assert model.to(tinynet.zeros(1)).head.weight.dtype == tinynet.float32
    assert model.to("cpu").cpu() is model
    with pytest.raises(TypeError, match="floating"):
        model.to(tinynet.int64)
    with pytest.raises((RuntimeError, ValueError), match="cuda"):
        model.to("cuda")
    model.double()
    model(tinynet.from_numpy(np.ones((2, 3, 6, 6)))).sum().backward()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(duplicate):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4, bias=False))
    model.append(model[2])  # shared
    model[0].weight.requires_grad_(False)
    model.eval()
    twin = duplicate(model)
    assert repr(twin) == repr(model) and not twin.training
    for name, array in arrays(model).items():
        assert np.array_equal(arrays(twin)[name], array)
    assert twin[2] is twin[3] and twin[2].weight is not model[2].weight
    assert isinstance(twin[0].weight, nn.Parameter) and not twin[0].weight.requires_grad
    assert twin[2].weight.requires_grad
    with tinynet.no_grad():
        twin[2].weight.add_(1)
    assert not np.array_equal(twin[2].weight.detach().numpy(), model[2].weight.detach().numpy())


def test_state_dict_shares_memory_unless_copied():
    layer = nn.Linear(2, 2)
    state = layer.state_dict(prefix="head.")
    assert list(state) == ["head.weight", "head.bias"]
    assert not state["head.weight"].requires_grad
    assert np.shares_memory(state["head.weight"].numpy(), layer.weight.detach().numpy())
    assert layer.state_dict(keep_vars=True)["weight"] is layer.weight
