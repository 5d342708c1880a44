"""Sequential, ModuleList and ModuleDict, operation by operation beside torch's."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import tinynet
from tests.nn.models import tensor
from tinynet import nn


def sequential(nn):
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Sigmoid())


def module_list(nn):
    return nn.ModuleList([nn.Linear(2, 3), nn.ReLU(), nn.ReLU(), nn.Linear(3, 2)])


def steps(nn, m):
    """Operations on a container of four modules; each result is shown by its repr."""
    yield m
    yield m[0], m[-1], m[1:3], m[::2], m[-2:], len(m)
    m.append(nn.Tanh())
    yield m
    m.extend([nn.Flatten(), nn.Identity()])
    yield m
    m.insert(1, nn.ReLU6())
    yield m
    if isinstance(m, nn.Sequential):
        m.insert(-1, nn.Tanh())  # torch's ModuleList breaks itself here
    yield m
    m[2] = nn.Hardtanh(-2, 2)
    m[-1] = nn.Dropout(0.25)
    yield m
    yield m.pop(0), m.pop(-2), m
    del m[0]
    yield m
    del m[0:2]
    yield m, list(m._modules)
    m += nn.Sequential(nn.Identity())
    yield m, [type(c).__name__ for c in m]


@pytest.mark.torch
@pytest.mark.parametrize("build", [sequential, module_list])
def test_lists_behave_as_torchs(torch, build):
    for number, (ours, theirs) in enumerate(zip(steps(nn, build(nn)), steps(torch.nn, build(torch.nn)), strict=True)):
        assert repr(ours) == repr(theirs), f"step {number}"


@pytest.mark.parametrize("build", [sequential, module_list])
def test_positions_outside_and_non_modules_are_refused(build):
    container = build(nn)
    before = repr(container)
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"{index} is out of range"):
            container[index]
        with pytest.raises(IndexError):
            del container[index]
    with pytest.raises(TypeError):
        container["0"]
    for call in (container.append, lambda m: container.insert(0, m), lambda m: container.__setitem__(0, m)):
        with pytest.raises(TypeError):
            call("relu")
    with pytest.raises(TypeError, match="iterable"):
        container.extend(3)
    assert repr(container) == before


def test_sequential_names_addition_and_forward():
    first = nn.Linear(2, 2)
    named = nn.Sequential(OrderedDict(first=first, act=nn.ReLU()))
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    assert named.first is named[0] is first and list(named[1:]._modules) == ["act"]
    joined = named + nn.Sequential(nn.Flatten())
    assert len(joined) == 3 and list(joined._modules) == ["0", "1", "2"]
    x = tensor(3, 2)
    assert named(x).tolist() == first(x).relu().tolist()
    with pytest.raises(ValueError, match="Sequential"):
        named + [nn.ReLU()]
    with pytest.raises(IndexError, match="out of range"):
        named.insert(5, nn.ReLU())
    empty = nn.Sequential()
    assert empty(x) is x and repr(empty) == "Sequential()"


@pytest.mark.torch
def test_dicts_behave_as_torchs(torch):
    def steps(nn):
        d = nn.ModuleDict({"a": nn.Linear(1, 2), "b": nn.ReLU()})
        yield d, len(d), "a" in d, "c" in d, list(d), list(d.keys()), [n for n, _ in d.items()], list(d.values())
        d["c"] = nn.Tanh()
        d.update({"b": nn.Sigmoid(), "d": nn.Identity()})
        d.update([("e", nn.Flatten())])
        d.update(nn.ModuleDict({"f": nn.ReLU()}))
        yield d, d["b"], list(d.state_dict())
        yield d.pop("a"), d
        del d["b"]
        yield d
        d.clear()
        yield d, len(d)

    for ours, theirs in zip(steps(nn), steps(torch.nn), strict=True):
        assert repr(ours) == repr(theirs)


def test_dicts_refuse_what_is_no_module():
    d = nn.ModuleDict()
    with pytest.raises(TypeError, match="Module"):
        d["a"] = 3
    with pytest.raises(TypeError, match="mapping"):
        d.update(3)
    with pytest.raises(ValueError, match="length 3"):
        d.update([("a", nn.ReLU(), 1)])
    with pytest.raises(KeyError):
        d["a"]
    with pytest.raises(KeyError):
        d["x.y"] = nn.ReLU()


def test_a_module_list_inserts_where_a_list_would():
    layers, plain = nn.ModuleList([nn.ReLU(), nn.Tanh()]), ["ReLU", "Tanh"]
    for index, module in ((-1, nn.Sigmoid()), (9, nn.Flatten()), (0, nn.Identity())):
        layers.insert(index, module)
        plain.insert(index, type(module).__name__)
    assert [type(m).__name__ for m in layers] == plain and list(layers._modules) == list("01234")


def test_parameters_in_containers_are_trained():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    x = tensor(4, 2)
    for layer in layers:
        x = layer(x)
    x.sum().backward()
    assert all(p.grad is not None for p in layers.parameters()) and len(list(layers.parameters())) == 6
    assert isinstance(layers + [nn.ReLU()], nn.ModuleList) and isinstance(x, tinynet.Tensor)
