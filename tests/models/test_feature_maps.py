"""C2 to C5 of a ResNet, and models by name."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinynet
from tinynet import models
from tinynet.models import BasicBlock, Bottleneck, CifarResNet, FeatureMaps, IntermediateLayerGetter, ResNet

SMALL = [1, 1, 1, 1]


def stages_by_hand(model: ResNet, x: tinynet.Tensor) -> dict[str, tinynet.Tensor]:
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    maps = {}
    for number, layer in enumerate((model.layer1, model.layer2, model.layer3, model.layer4), 2):
        maps[f"C{number}"] = x = layer(x)
    return maps


def test_maps_are_what_the_stages_give() -> None:
    model = ResNet(BasicBlock, SMALL).eval()
    x = tinynet.randn(1, 3, 64, 48)
    expected = stages_by_hand(model, x)
    maps = FeatureMaps(model)(x)
    assert list(maps) == ["C2", "C3", "C4", "C5"]
    for name, features in maps.items():
        assert np.array_equal(features.detach().numpy(), expected[name].detach().numpy())


@pytest.mark.parametrize(
    ("model", "strides", "channels"),
    [
        (lambda: ResNet(BasicBlock, SMALL), [4, 8, 16, 32], [64, 128, 256, 512]),
        (lambda: ResNet(Bottleneck, [2, 1, 1, 1]), [4, 8, 16, 32], [256, 512, 1024, 2048]),
        (lambda: ResNet(Bottleneck, SMALL, groups=32, width_per_group=4), [4, 8, 16, 32], [256, 512, 1024, 2048]),
        (lambda: ResNet(Bottleneck, SMALL, replace_stride_with_dilation=[False, True, True]), [4, 8, 8, 8],
         [256, 512, 1024, 2048]),
        (lambda: ResNet(Bottleneck, SMALL, stride_in_1x1=True), [4, 8, 16, 32], [256, 512, 1024, 2048]),
        (lambda: CifarResNet(8), [1, 2, 4], [16, 32, 64]),
    ],
    ids=["basic", "bottleneck", "grouped", "dilated", "caffe", "cifar"],
)  # fmt: skip
@pytest.mark.usefixtures("uninitialised")
def test_strides_and_channels(model, strides: list[int], channels: list[int]) -> None:
    maps = FeatureMaps(model())
    levels = [f"C{number}" for number in range(2, 2 + len(strides))]
    assert maps.strides == dict(zip(levels, strides))
    assert maps.channels == dict(zip(levels, channels))
    shapes = {name: features.shape for name, features in maps(tinynet.zeros(1, 3, 64, 96)).items()}
    assert shapes == {name: (1, maps.channels[name], 64 // s, 96 // s) for name, s in maps.strides.items()}


def test_only_what_is_needed_is_computed_and_keys_stay() -> None:
    model = ResNet(BasicBlock, SMALL)
    maps = FeatureMaps(model, ["C3"])
    assert list(maps) == ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2"]
    assert set(maps.state_dict()) == {
        key for key in model.state_dict() if key.startswith(("conv1", "bn1", "layer1", "layer2"))
    }
    assert maps["layer1"] is model.layer1
    assert list(maps(tinynet.zeros(1, 3, 32, 32))) == ["C3"]


@pytest.mark.parametrize("levels", [[], ["C6"], ["C3", "C2"], ["C2", "C2"]])
def test_levels_that_are_refused(levels: list[str]) -> None:
    with pytest.raises(ValueError, match="finest first, got"):
        FeatureMaps(CifarResNet(8), levels)


def test_layers_that_a_model_does_not_have() -> None:
    model = CifarResNet(8)
    with pytest.raises(ValueError, match=r"not present in model: \['layer9'\]"):
        IntermediateLayerGetter(model, {"layer1": "0", "layer9": "1"})
    with pytest.raises(ValueError, match="not present"):
        IntermediateLayerGetter(model, {})


def test_new_names_in_the_order_of_the_model() -> None:
    getter = IntermediateLayerGetter(CifarResNet(8), {"layer3": "last", "conv1": "first"})
    assert list(getter(tinynet.zeros(1, 3, 8, 8))) == ["first", "last"]


# --- by name --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("uninitialised")
def test_every_model_by_name() -> None:
    names = models.list_models()
    assert names == sorted(names)
    assert {"resnet18", "resnext50_32x4d", "cifar_resnet110", "plain_resnet34", "plain_cifar_resnet20"} <= set(names)
    for name in names:
        function = getattr(models, name, None)
        assert name.startswith("plain") or inspect.isfunction(function)
    assert models.get_model("resnet18", num_classes=7).fc.out_features == 7
    plain = models.get_model("plain_cifar_resnet20")
    assert plain.shortcut == "none" and len(plain.layer1) == 3


@pytest.mark.usefixtures("uninitialised")
def test_features_only() -> None:
    maps = models.get_model("resnet18", features_only=True)
    assert isinstance(maps, FeatureMaps) and list(maps.strides.values()) == [4, 8, 16, 32]


@pytest.mark.parametrize(("name", "hint"), [("resnet5O", "did you mean resnet50"), ("alexnet2", "list_models")])
def test_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"Unknown model {name}: .*{hint}"):
        models.get_model(name)


def test_everything_public_is_exported_once() -> None:
    assert len(set(models.__all__)) == len(models.__all__)
    assert all(hasattr(models, name) for name in models.__all__)
