"""The ResNet of a file is known by its tensors, also inside of a detector's."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import tinynet
from tinynet import models, nn
from tinynet.errors import CheckpointError
from tinynet.inspect.architecture import load_resnet
from tinynet.models import BasicBlock, Bottleneck, ResNet


def outputs(model: nn.Module) -> np.ndarray:
    with tinynet.no_grad():
        return model.eval()(tinynet.ones(1, 3, 32, 32)).numpy()


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (models.resnet18, "ResNet-18"),
        (lambda: ResNet(Bottleneck, [1, 2, 1, 1], num_classes=7), "a ResNet of [1, 2, 1, 1] blocks"),
        (lambda: ResNet(Bottleneck, [1, 1, 1, 1], groups=8, width_per_group=4), "with 8 groups of width 4"),
        (lambda: ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=128), "with 1 group of width 128"),
    ],
)
def test_whole_files(build, name: str) -> None:
    model = build()
    loaded = load_resnet(model.state_dict(), "file")
    assert name in loaded.name and loaded.classes == model.fc.out_features and loaded.pyramid is None
    assert not loaded.backbone.training and np.array_equal(outputs(loaded.backbone), outputs(model))


@pytest.mark.parametrize("prefix", ["module.", "backbone.body."])
def test_prefixes(prefix: str) -> None:
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    state = OrderedDict((prefix + name, value) for name, value in model.state_dict().items())
    assert np.array_equal(outputs(load_resnet(state, "file").backbone), outputs(model))


def test_detectors_with_a_pyramid_and_frozen_norms() -> None:
    model = models.resnet_fpn_backbone("resnet18", returned_layers=[2, 3, 4])
    x = tinynet.randn(1, 3, 64, 64)
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    assert not any(name.endswith("num_batches_tracked") for name in state)
    state["head.weight"] = tinynet.ones(3)
    loaded = load_resnet(state, "file")
    assert loaded.classes is None and loaded.levels == ("C3", "C4", "C5") and loaded.pyramid is not None
    old = {name.replace("blocks.0.0", "blocks.0").replace("blocks.1.0", "blocks.1").replace("blocks.2.0", "blocks.2"): v
           for name, v in state.items()}  # fmt: skip
    with tinynet.no_grad():
        expected = list(model.eval()(x).values())[:3]
        for each in (loaded, load_resnet(old, "file")):
            maps = models.FeatureMaps(each.backbone, each.levels)(x)
            for actual, wanted in zip(each.pyramid(maps).values(), expected):
                assert np.allclose(actual.numpy(), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected one tensor named layer1.0.conv1.weight, found 0 among 0"),
        (models.cifar_resnet20().state_dict(), "found .* blocks"),
        ({f"{p}.{n}": v for p in "ab" for n, v in models.cifar_resnet20().state_dict().items()}, "found 2 among"),
    ],
)
def test_other_files_are_refused(content: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_resnet(content, "file")


def test_damaged_files_are_refused() -> None:
    state = ResNet(BasicBlock, [1, 1, 1, 1]).state_dict()
    del state["layer3.0.bn1.weight"]
    with pytest.raises(CheckpointError, match=r"(?s)file does not fit ResNet.*layer3\.0\.bn1\.weight"):
        load_resnet(state, "file")
