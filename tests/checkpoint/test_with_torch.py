"""Weights in both directions between tinynet and torch, ResNet-50 whole: the same keys, bits and logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tinynet import models
from tinynet.checkpoint import describe, load, load_weights, save
from tinynet.inspect.torch_twin import torch_twin

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def resnet50() -> models.ResNet:
    """With statistics that a training could have left behind."""
    tinynet.manual_seed(0)
    model = models.resnet50()
    generator = np.random.default_rng(0)
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bn3.weight", "bn3.bias")):
            value.numpy()[:] = generator.uniform(0.2, 0.6, value.shape)
        elif name.endswith("num_batches_tracked"):
            value.numpy()[...] = 1000
    return model.eval()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        array, expected = value.detach().numpy(), theirs[name].detach().numpy()
        assert array.dtype == expected.dtype and array.shape == expected.shape, name
        assert array.tobytes() == expected.tobytes(), name


def test_torch_loads_what_tinynet_saves(resnet50: models.ResNet, image: np.ndarray, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    path = tmp_path / "resnet50.safetensors"
    save(resnet50, path, {"source": "tinynet"})
    state = load_file(path)
    assert sorted(state) == sorted(resnet50.state_dict()) and len(state) == 320
    theirs = torch_twin("resnet").resnet50()
    assert list(theirs.load_state_dict(state)) == [[], []]
    same(resnet50.state_dict(), theirs.state_dict())
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(image))
    with tinynet.no_grad():
        assert_close(resnet50(tinynet.from_numpy(image)), expected, "logits")


def test_tinynet_loads_what_torch_saves(resnet50: models.ResNet, image: np.ndarray, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    theirs = torch_twin("resnet").resnet50().eval()
    theirs.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in resnet50.state_dict().items()})
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image))
    wrapped = {"state_dict": torch.nn.DataParallel(theirs).state_dict(), "epoch": 90}
    torch.save(theirs.state_dict(), tmp_path / "zip.pth")
    torch.save(wrapped, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = models.resnet50()
    for name in ("zip.pth", "legacy.pth", "theirs.safetensors"):
        for parameter in ours.parameters():
            parameter.data.fill_(0)
        load_weights(ours, tmp_path / name)
        same(ours.state_dict(), theirs.state_dict())
    with tinynet.no_grad():
        assert_close(ours.eval()(tinynet.from_numpy(image)), expected, "logits")


def test_every_dtype_that_torch_writes_to_safetensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    numbers = torch.tensor([[-2.5, 0.0, 1.0], [3.0, 100.0, 0.375]])
    names = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {name: (numbers.abs() if name == "uint8" else numbers).to(getattr(torch, name)) for name in names}
    save_file(tensors, tmp_path / "f")
    loaded = load(tmp_path / "f")
    for name, value in tensors.items():
        same({name: loaded[name]}, {name: value.float() if name == "bfloat16" else value})
    assert {info.name: info.dtype for info in describe(tmp_path / "f").tensors} == {name: name for name in names}
