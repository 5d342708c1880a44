"""load_state_dict: everything or nothing, and the names of all that does not fit."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import numpy as np
import pytest

import tinynet
from tests.nn.models import arrays, net, randomize
from tinynet import nn
from tinynet.errors import CheckpointError


def assert_unchanged(model, before):
    after = arrays(model)
    assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", ["arrays", "tensors", "float64", "read-only", "non-contiguous"])
def test_values_arrive_in_the_parameters_own_dtype(kind):
    source, model = net(nn), net(nn)
    randomize(source)
    values = arrays(source)
    if kind == "tensors":
        values = source.state_dict()
    elif kind == "float64":
        values = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in values.items()}
    elif kind == "read-only":
        for array in values.values():
            array.flags.writeable = False
    elif kind == "non-contiguous":
        values = {k: np.asfortranarray(v) for k, v in values.items()}
    parameters = list(model.parameters())
    versions = [p._version for p in parameters]
    result = model.load_state_dict(values)
    assert repr(result) == "<All keys matched successfully>" and result == ([], [])
    assert_unchanged(model, arrays(source))
    for before, after, version in zip(parameters, model.parameters(), versions):
        assert before is after and after.dtype == tinynet.float32 and after._version > version
        assert after.requires_grad


def test_every_mismatch_is_listed_and_nothing_is_loaded():
    model = net(nn)
    before = arrays(model)
    values = {k: v + 1 for k, v in before.items()}
    del values["block.conv1.weight"], values["stem.0.bias"]
    values["head.weight"] = np.zeros((7, 2), np.float32)
    values["block.bn1.weight"] = np.zeros(9, np.float32)
    values["extra"] = values["block.extra.weight"] = np.zeros(1)
    values["head.bias"] = ["no", "array"]
    values[3] = np.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        model.load_state_dict(values)
    text = str(caught.value)
    for part in (
        "block.conv1.weight", "stem.0.bias", "extra", "block.extra.weight", "head.weight", "[7, 2]", "[5, 2]",
        "block.bn1.weight", "[9]", "[2]", "head.bias", "list", "Sequential",
    ):  # fmt: skip
        assert part in text, part
    assert isinstance(caught.value, RuntimeError)
    assert_unchanged(model, before)


def test_not_strict_returns_the_names_but_still_refuses_shapes():
    model = net(nn)
    values = {"head.weight": np.ones((5, 2), np.float32), "unknown": np.zeros(1)}
    result = model.load_state_dict(values, strict=False)
    assert result.unexpected_keys == ["unknown"]
    assert set(result.missing_keys) == set(model.state_dict()) - {"head.weight"} - {
        name for name in model.state_dict() if name.endswith("num_batches_tracked")
    }
    assert (model.head.weight.detach().numpy() == 1).all()
    before = arrays(model)
    with pytest.raises(CheckpointError, match=r"head.weight.*\[4\].*\[5, 2\]"):
        model.load_state_dict({"head.bias": np.ones(5), "head.weight": np.ones(4)}, strict=False)
    assert_unchanged(model, before)


@pytest.mark.torch
def test_the_names_that_torch_returns(torch):
    ours, theirs = net(nn), net(torch.nn)
    values = {"head.weight": np.ones((5, 2), np.float32), "block.bn1.nothing": np.zeros(1), "b.c": np.zeros(1)}
    expected = theirs.load_state_dict({k: torch.from_numpy(v) for k, v in values.items()}, strict=False)
    assert ours.load_state_dict(values, strict=False) == tuple(expected)
    ours.load_state_dict(theirs.state_dict())  # torch's tensors are arrays to NumPy
    for name, value in theirs.state_dict().items():
        assert np.array_equal(arrays(ours)[name], value.numpy())


@pytest.mark.torch
@pytest.mark.parametrize("version", [None, 1, 2])
def test_batch_norm_counters_may_be_missing_from_old_files_only(torch, version):
    for library in (nn, torch.nn):
        norm = library.BatchNorm2d(2)
        state = norm.state_dict()
        del state["num_batches_tracked"]
        if version is None:
            state = OrderedDict(state)
        else:
            state._metadata[""]["version"] = version
        if version == 2:
            with pytest.raises(RuntimeError, match="num_batches_tracked"):
                norm.load_state_dict(state)
        else:
            norm.load_state_dict(state)
            assert norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_weights_are_loaded_with_a_warning(bad):
    layer = nn.Linear(2, 2)
    with pytest.warns(UserWarning, match=r"NaN or infinite values in weight$"):
        layer.load_state_dict({"weight": np.array([[bad, 1], [1, 1]]), "bias": np.zeros(2)})
    assert not np.isfinite(layer.weight.detach().numpy()[0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.load_state_dict({"weight": np.ones((2, 2)), "bias": np.zeros(2)})


def test_a_warning_made_an_error_leaves_the_module_alone():
    layer = nn.Linear(2, 2)
    before = arrays(layer)
    with warnings.catch_warnings(), pytest.raises(UserWarning):
        warnings.simplefilter("error")
        layer.load_state_dict({"weight": np.full((2, 2), np.nan), "bias": np.zeros(2)})
    assert_unchanged(layer, before)


def test_modules_translate_old_names():
    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(2, 2))

        def _load_from_state_dict(self, state_dict, prefix, *rest):
            for name in ("weight", "bias"):
                if f"{prefix}block.{name}" in state_dict:
                    state_dict[f"{prefix}block.0.{name}"] = state_dict.pop(f"{prefix}block.{name}")
            super()._load_from_state_dict(state_dict, prefix, *rest)

    model = nn.Sequential(Renamed(), nn.Linear(2, 2))
    values = {"0.block.weight": np.ones((2, 2)), "0.block.bias": np.ones(2),
              "1.weight": np.ones((2, 2)), "1.bias": np.ones(2)}  # fmt: skip
    given = dict(values)
    model.load_state_dict(values)
    assert values == given  # the caller's dict is not renamed
    assert (model[0].block[0].weight.detach().numpy() == 1).all()
    before = arrays(model)
    values["1.bias"] = np.zeros(3)
    values["0.block.weight"] = np.zeros((2, 2))
    with pytest.raises(CheckpointError):
        model.load_state_dict(values)
    assert_unchanged(model, before)


def test_assign_takes_the_given_tensors():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    values = {k: tinynet.from_numpy(v.astype(np.float64)) for k, v in arrays(model).items()}
    model.load_state_dict(values, assign=True)
    assert model[0].weight.dtype == tinynet.float64
    assert isinstance(model[0].weight, nn.Parameter) and model[0].weight.requires_grad
    assert not model[0].bias.requires_grad
    assert np.shares_memory(model[0].weight.detach().numpy(), values["0.weight"].numpy())
    assert model[1].running_mean is values["1.running_mean"]
    assert list(model.state_dict()) == list(values)


def test_scalars_of_very_old_files_and_other_containers():
    norm = nn.BatchNorm1d(1)
    values = arrays(norm)
    values["num_batches_tracked"] = np.array([7])
    norm.load_state_dict(values)
    assert norm.num_batches_tracked.item() == 7 and norm.num_batches_tracked.shape == ()
    with pytest.raises(TypeError, match="list"):
        norm.load_state_dict([("weight", np.ones(1))])
