"""Model code written for torch runs on tinynet once its imports are changed, and gives the same numbers.

The code is torch_style.py beside this file: what torchvision's models/resnet.py, models/_utils.py, ops/misc.py and
ops/feature_pyramid_network.py use of torch, in the ways they use it.
"""

from __future__ import annotations

import functools
import operator
import re
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close, to_numpy
from tests.models.sources import SOURCE, torch_style, with_imports_changed
from tests.reference.cases import generator, tensors
from tinynet import models

# Every attribute of torch that those four files name.
USED = [
    "Tensor", "Tensor.reshape", "Tensor.rsqrt", "Tensor.shape", "flatten", "ones", "permute", "zeros",
    "nn.AdaptiveAvgPool2d", "nn.BatchNorm2d", "nn.BatchNorm3d", "nn.Conv2d", "nn.Conv3d", "nn.Dropout",
    "nn.GroupNorm", "nn.Linear", "nn.MaxPool2d", "nn.Module", "nn.Module.modules", "nn.Module.named_children",
    "nn.Module.register_buffer", "nn.Module._load_from_state_dict", "nn.ModuleDict", "nn.ModuleDict.items",
    "nn.ModuleList", "nn.ModuleList.append", "nn.ReLU", "nn.Sequential", "nn.Sigmoid",
    "nn.functional.interpolate", "nn.functional.max_pool2d", "nn.functional.relu", "nn.init.constant_",
    "nn.init.kaiming_normal_", "nn.init.kaiming_uniform_", "nn.init.normal_", "nn.init.zeros_",
]  # fmt: skip


@pytest.mark.parametrize("name", USED)
def test_name_is_there(name: str) -> None:
    assert operator.attrgetter(name)(tinynet) is not None


def test_only_imports_are_changed() -> None:
    changed = with_imports_changed(SOURCE)
    before, after = SOURCE.splitlines(), changed.splitlines()
    assert [line for line, old in zip(after, before, strict=True) if line != old] == [
        "import tinynet as torch",
        "import tinynet.nn as nn",
        "import tinynet.nn.functional as F",
        "from tinynet import Tensor",
    ]
    used = set(re.findall(r"\b(?:torch|nn|F)\.(?:nn\.)?(?:functional\.|init\.)?(\w+)", changed))
    assert used <= {name.rpartition(".")[2] for name in USED} | {"nn", "functional", "init"}


CASES = {
    "ResNet-18": (lambda m: m.resnet18(num_classes=5), (2, 3, 65, 64)),
    "bottlenecks": (lambda m: m.ResNet(m.Bottleneck, [1, 1, 2, 1], zero_init_residual=True), (2, 3, 64, 64)),
    "groups": (lambda m: m.ResNet(m.Bottleneck, [1, 1, 1, 1], 4, False, 32, 4), (2, 3, 64, 64)),
    "dilation": (
        lambda m: m.ResNet(m.Bottleneck, [1, 1, 2, 2], replace_stride_with_dilation=[False, True, True]),
        (2, 3, 64, 64),
    ),
    "FPN": (lambda m: m.resnet_fpn_backbone("resnet18", trainable_layers=2), (1, 3, 75, 91)),
    "FPN to P7": (
        lambda m: m.resnet_fpn_backbone(
            "resnet18", trainable_layers=5, returned_layers=(2, 3, 4), extra_blocks=m.LastLevelP6P7(512, 256)
        ),
        (1, 3, 64, 64),
    ),
    "convolution": (lambda m: m.Conv2dNormActivation(3, 4, stride=2), (2, 3, 9, 8)),
    "squeeze": (lambda m: m.SqueezeExcitation(3, 2), (2, 3, 5, 4)),
    "perceptron": (lambda m: m.MLP(6, [4, 3], inplace=False, dropout=0.0), (5, 6)),
    "permutation": (lambda m: m.Permute([0, 2, 3, 1]), (2, 3, 4, 5)),
}


def evaluate(name: str, lib: ModuleType, source: Any) -> dict[str, np.ndarray]:
    """Outputs, all gradients and buffers of one training step in float64; weights are drawn by name."""
    build, shape = CASES[name]
    model = build(source).double()
    state = {key: value for key, value in model.state_dict().items() if value.shape != ()}
    drawn = {key: generator(key).uniform(0.05, 0.3, tuple(value.shape)) for key, value in state.items()}
    for key, values in drawn.items():
        drawn[key] = values * generator("sign", key).choice([-1, 1], values.shape) if values.ndim > 1 else values
    model.load_state_dict({key: lib.from_numpy(values) for key, values in drawn.items()}, strict=False)
    x = lib.from_numpy(generator("x").standard_normal(shape)).requires_grad_()
    outputs = dict(tensors(model(x)))
    total = 0.0
    for key, output in outputs.items():
        total = total + (output * lib.from_numpy(generator(key).standard_normal(tuple(output.shape)))).sum()
    total.backward()
    results = {key: to_numpy(output) for key, output in outputs.items()}
    results |= {f"gradient of {key}": to_numpy(p.grad) for key, p in model.named_parameters() if p.grad is not None}
    results |= {f"buffer {key}": to_numpy(buffer) for key, buffer in model.named_buffers()}
    return results | {"gradient of x": to_numpy(x.grad)}


@functools.cache
def on_tinynet(name: str) -> dict[str, np.ndarray]:
    return evaluate(name, tinynet, torch_style("tinynet"))


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_on_torch(name: str) -> None:
    import torch

    expected = evaluate(name, torch, torch_style("torch"))
    assert on_tinynet(name).keys() == expected.keys()
    for key, value in expected.items():
        assert_close(on_tinynet(name)[key], value, key, tolerance=1e-8)


@pytest.mark.parametrize("name", ["ResNet-18", "bottlenecks", "groups", "dilation", "FPN", "FPN to P7"])
def test_the_same_numbers_from_tinynets_models(name: str) -> None:
    """Two sources of one architecture: structure, names and defaults agree."""
    ours = evaluate(name, tinynet, models)
    assert list(ours) == list(on_tinynet(name))
    for key, value in on_tinynet(name).items():
        assert_close(ours[key], value, key, tolerance=1e-8)


@pytest.mark.parametrize("name", ["ResNet-18", "bottlenecks", "FPN"])
def test_both_sources_initialise_alike(name: str) -> None:
    """Equal keys and shapes; large weights have the same spread, small tensors the same constants."""
    ours, theirs = (CASES[name][0](source).state_dict() for source in (models, torch_style("tinynet")))
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert ours[key].shape == value.shape
        if value.ndim > 1:
            assert float(ours[key].std()) == pytest.approx(float(value.std()), rel=0.1), key
        elif not key.startswith("fc"):
            assert (ours[key] == value).all(), key


def test_loading_hooks_of_torch_style_modules() -> None:
    """Overridden `_load_from_state_dict` with torch's positional arguments, in a tree: old names, dropped counters."""
    m = torch_style("tinynet")
    saved = m.resnet_fpn_backbone("resnet18", norm_layer=tinynet.nn.BatchNorm2d)
    old = {k.replace(".0.", ".") if k.startswith("fpn.") else k: v for k, v in saved.state_dict().items()}
    model = m.resnet_fpn_backbone("resnet18")
    model.load_state_dict(old)
    loaded = model.fpn.inner_blocks[1][0].weight.detach()
    assert np.array_equal(loaded.numpy(), old["fpn.inner_blocks.1.weight"].numpy())


def test_volumes_are_only_named() -> None:
    m = torch_style("tinynet")
    with pytest.raises(NotImplementedError, match="Conv3d"):
        m.Conv3dNormActivation(3, 4)
    with pytest.raises(NotImplementedError, match="BatchNorm3d"):
        tinynet.nn.BatchNorm3d(4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        m.ConvNormActivation(3, 4)
    assert "Conv2dNormActivation" in str(caught[0].message)


def test_printed_frozen_norm() -> None:
    assert repr(torch_style("tinynet").FrozenBatchNorm2d(4)) == repr(models.FrozenBatchNorm2d(4))
