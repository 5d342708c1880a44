"""The Feature Pyramid Network: its definition written out, torchvision's keys, odd sizes, extra levels, refusals."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.models.sources import torch_style
from tests.reference.cases import generator
from tinynet import models, nn
from tinynet.errors import ShapeError
from tinynet.models import (
    BackboneWithFPN,
    FeaturePyramidNetwork,
    FrozenBatchNorm2d,
    LastLevelMaxPool,
    LastLevelP6P7,
    ResNet,
)

CHANNELS = [3, 5, 4]
HALVING = [(16, 24), (8, 12), (4, 6)]
ODD = [(25, 19), (13, 10), (7, 5)]  # rounded up at every stage
ANY = [(20, 30), (13, 9), (5, 5)]  # an upsampling by 2 fits nowhere


def maps(sizes: list[tuple[int, int]], channels: list[int] = CHANNELS, dtype: str = "float64") -> OrderedDict:
    """Random maps "C2", "C3", ... of these sizes."""
    names = [f"C{number}" for number in range(2, 2 + len(channels))]
    return OrderedDict(
        (name, tinynet.from_numpy(generator(name).standard_normal((2, count, *size)).astype(dtype)))
        for name, count, size in zip(names, channels, sizes)
    )


def nearest(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(out) * old // out for out, old in zip(size, x.shape[-2:]))
    return x[:, :, rows][:, :, :, columns]


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution with 'same' padding as a sum over its taps."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    height, width = x.shape[-2:]
    taps = [
        np.einsum("oc,nchw->nohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width])
        for i in range(weight.shape[-2])
        for j in range(weight.shape[-1])
    ]
    return sum(taps) + bias.reshape(1, -1, 1, 1)


@pytest.mark.parametrize("sizes", [HALVING, ODD, ANY], ids=["halving", "odd", "any"])
def test_definition(sizes: list[tuple[int, int]]) -> None:
    """P_l = smooth(inner_l), inner_l = lateral(C_l) + upsampled inner_{l+1}: the inner map travels down, not P."""
    fpn = FeaturePyramidNetwork(CHANNELS, 6).double()
    for parameter in fpn.parameters():
        nn.init.normal_(parameter)
    state = {name: value.numpy() for name, value in fpn.state_dict().items()}
    inputs = maps(sizes)
    inner, expected = None, {}
    for level in (2, 1, 0):
        name = f"C{level + 2}"
        lateral = convolved(inputs[name].numpy(), *(state[f"inner_blocks.{level}.0.{k}"] for k in ("weight", "bias")))
        inner = lateral if inner is None else lateral + nearest(inner, lateral.shape[-2:])
        expected[name] = convolved(inner, *(state[f"layer_blocks.{level}.0.{k}"] for k in ("weight", "bias")))
    results = fpn(inputs)
    assert list(results) == ["C2", "C3", "C4"]
    for name, result in results.items():
        assert result.shape[-2:] == inputs[name].shape[-2:]
        assert_close(result, expected[name], name, tolerance=1e-12)


@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d], ids=["bias", "norm"])
def test_keys_and_initialisation(norm_layer) -> None:
    """torchvision's keys; U(±sqrt(3 / fan_in)), biases 0, none where a norm follows."""
    fpn = FeaturePyramidNetwork([8, 16], 32, LastLevelP6P7(16, 32), norm_layer)
    parts = ["0.weight", "0.bias"] if norm_layer is None else ["0.weight", "1.weight", "1.bias"]
    blocks = [f"{block}_blocks.{level}" for block in ("inner", "layer") for level in (0, 1)]
    keys = [f"{block}.{part}" for block in blocks for part in parts]
    keys += [f"extra_blocks.{level}.{part}" for level in ("p6", "p7") for part in ("weight", "bias")]
    assert [name for name, _ in fpn.named_parameters()] == keys
    for name, parameter in fpn.named_parameters():
        values = parameter.detach().numpy()
        if values.ndim == 4:
            bound = np.sqrt(3 / np.prod(values.shape[1:]))
            assert 0.9 * bound < np.abs(values).max() <= bound, name
        else:
            assert (values == (1 if name.endswith("1.weight") else 0)).all(), name


def test_max_pool_level_takes_every_second_position() -> None:
    fpn = FeaturePyramidNetwork(CHANNELS, 6, LastLevelMaxPool()).double()
    results = fpn(maps(ODD))
    assert list(results) == ["C2", "C3", "C4", "pool"]
    assert np.array_equal(results["pool"].detach().numpy(), results["C4"].detach().numpy()[:, :, ::2, ::2])
    assert results["pool"].shape == (2, 6, 4, 3)


@pytest.mark.parametrize("out_channels", [4, 6])
def test_p6_reads_p5_or_c5_and_p7_reads_rectified_p6(out_channels: int) -> None:
    """p6 from P5 where the channels of C5 (4 here) and the pyramid are equal, else from C5."""
    extra = LastLevelP6P7(4, out_channels)
    fpn = FeaturePyramidNetwork(CHANNELS, out_channels, extra).double()
    inputs = maps(ODD)
    results = fpn(inputs)
    assert list(results) == ["C2", "C3", "C4", "p6", "p7"]
    source = results["C4"] if out_channels == 4 else inputs["C4"]
    assert_close(results["p6"], extra.p6(source), tolerance=1e-14)
    assert_close(results["p7"], extra.p7(nn.functional.relu(results["p6"])), tolerance=1e-14)
    assert (results["p6"] < 0).any(), "without a negative value the ReLU would not show"
    assert results["p7"].shape == (2, out_channels, 2, 2)


@pytest.mark.torch
@pytest.mark.parametrize("extra", ["none", "pool", "P6 of P5", "P6 of C5"])
@pytest.mark.parametrize("sizes", [HALVING, ODD, ANY], ids=["halving", "odd", "any"])
@pytest.mark.parametrize("norm", [False, True], ids=["bias", "norm"])
def test_equals_torch(sizes, extra: str, norm: bool) -> None:
    """Outputs and all gradients in float64 with the torch-style source on torch."""
    import torch

    def build(library, nn):
        channels = 4 if extra == "P6 of P5" else 6
        blocks = {"none": lambda: None, "pool": library.LastLevelMaxPool}.get(
            extra, lambda: library.LastLevelP6P7(4, channels)
        )
        norm_layer = nn.BatchNorm2d if norm else None
        return library.FeaturePyramidNetwork(CHANNELS, channels, blocks(), norm_layer).double()

    ours, theirs = build(models, tinynet.nn), build(torch_style("torch"), torch.nn)
    state = {k: generator(k).standard_normal(tuple(v.shape)) for k, v in ours.state_dict().items() if v.ndim}
    for model, lib in ((ours, tinynet), (theirs, torch)):
        model.load_state_dict({k: lib.from_numpy(v) for k, v in state.items()}, strict=not norm)
    inputs = maps(sizes)
    results = ours(inputs)
    expected = theirs(OrderedDict((k, torch.from_numpy(v.numpy())) for k, v in inputs.items()))
    assert list(results) == list(expected)
    losses = [0.0, 0.0]
    for name in expected:
        assert_close(results[name], expected[name], name, tolerance=1e-12)
        cotangent = generator("cotangent", name).standard_normal(tuple(expected[name].shape))
        losses[0] = losses[0] + (results[name] * tinynet.from_numpy(cotangent)).sum()
        losses[1] = losses[1] + (expected[name] * torch.from_numpy(cotangent)).sum()
    for loss in losses:
        loss.backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, gradients[name].grad, f"gradient of {name}", tolerance=1e-10)


# --- files ----------------------------------------------------------------------------------------------------------


def small_backbone() -> BackboneWithFPN:
    body = ResNet(models.BasicBlock, [1, 1, 1, 1], norm_layer=FrozenBatchNorm2d)
    return BackboneWithFPN(body, {"layer3": "0", "layer4": "1"}, [256, 512], 8)


def old_names(state: dict) -> dict:
    """As before torchvision 0.13: the convolutions were not in a Sequential."""
    return {k.replace(".0.", ".") if k.startswith("fpn.") else k: v for k, v in state.items()}


@pytest.mark.parametrize("versions", [False, True])
def test_old_keys_are_accepted(versions: bool) -> None:
    """Plain dicts, and ones whose _metadata says version 1; the given dict stays as it was."""
    first, second = small_backbone(), small_backbone()
    state = OrderedDict(old_names(first.state_dict()))
    assert "fpn.inner_blocks.0.weight" in state
    if versions:
        state._metadata = OrderedDict({"fpn": {"version": 1}})
    before = list(state)
    second.load_state_dict(state)
    assert list(state) == before
    for name, value in first.state_dict().items():
        assert np.array_equal(second.state_dict()[name].numpy(), value.numpy()), name


def test_old_keys_that_do_not_fit_change_nothing() -> None:
    model = small_backbone()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    state = old_names(small_backbone().state_dict())
    state["fpn.layer_blocks.1.weight"] = np.zeros((8, 8, 5, 5))
    del state["fpn.inner_blocks.0.bias"]
    with pytest.raises(RuntimeError) as error:
        model.load_state_dict(state)
    assert "fpn.layer_blocks.1.0.weight" in str(error.value) and "fpn.inner_blocks.0.0.bias" in str(error.value)
    assert all(np.array_equal(model.state_dict()[name].numpy(), value) for name, value in before.items())


def test_files_of_this_version_are_not_renamed() -> None:
    """A pyramid whose file is of version 2 and has the old name is wrong, and says so."""
    model = small_backbone()
    state = OrderedDict(old_names(model.state_dict()))
    state._metadata = model.state_dict()._metadata
    with pytest.raises(RuntimeError, match=r'Unexpected.*"fpn.inner_blocks.0.weight"|Missing'):
        model.load_state_dict(state)


# --- on a backbone --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("uninitialised")
def test_resnet_50_fpn_has_torchvisions_keys() -> None:
    model = models.resnet_fpn_backbone("resnet50")
    body = [key for key in models.resnet50(norm_layer=FrozenBatchNorm2d).state_dict() if not key.startswith("fc")]
    blocks = [f"fpn.{block}_blocks.{level}.0" for block in ("inner", "layer") for level in range(4)]
    expected = [f"body.{key}" for key in body] + [f"{block}.{part}" for block in blocks for part in ("weight", "bias")]
    assert list(model.state_dict()) == expected
    assert model.out_channels == 256
    # 23,454,912 of the convolutions without fc, and of the pyramid 4 × (256·256·9 + 256) + (3840·256 + 4·256)
    assert sum(p.numel() for p in model.fpn.parameters()) == 3_344_384
    assert sum(p.numel() for p in model.body.parameters()) == 23_454_912


@pytest.mark.parametrize("size", [(64, 64), (75, 91)])
@pytest.mark.usefixtures("uninitialised")
def test_levels_of_a_resnet(size: tuple[int, int]) -> None:
    results = models.resnet_fpn_backbone("resnet18")(tinynet.zeros(1, 3, *size))
    assert list(results) == ["0", "1", "2", "3", "pool"]
    for stride, result in zip((4, 8, 16, 32, 64), results.values()):
        assert result.shape == (1, 256, *(-(-side // stride) for side in size))


@pytest.mark.usefixtures("uninitialised")
def test_returned_layers_and_extra_blocks() -> None:
    """RetinaNet's: P3 to P7 of layer2 to layer4."""
    model = models.resnet_fpn_backbone("resnet50", returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(2048, 256))
    assert model.fpn.in_channels_list == [512, 1024, 2048]
    assert model.body.return_layers == {"layer2": "0", "layer3": "1", "layer4": "2"}
    results = model(tinynet.zeros(1, 3, 65, 129))
    assert [tuple(result.shape[-2:]) for result in results.values()] == [(9, 17), (5, 9), (3, 5), (2, 3), (1, 2)]
    assert list(results) == ["0", "1", "2", "p6", "p7"]


@pytest.mark.parametrize("trainable", range(6))
@pytest.mark.usefixtures("uninitialised")
def test_trainable_layers(trainable: int) -> None:
    model = models.resnet_fpn_backbone("resnet18", norm_layer=nn.BatchNorm2d, trainable_layers=trainable)
    trained = {name.split(".")[0] for name, parameter in model.body.named_parameters() if parameter.requires_grad}
    expected = ["layer4", "layer3", "layer2", "layer1", "conv1"][:trainable] + ["bn1"] * (trainable == 5)
    assert trained == set(expected)
    assert all(parameter.requires_grad for parameter in model.fpn.parameters())


@pytest.mark.usefixtures("uninitialised")
def test_arguments_that_are_refused() -> None:
    build = models.resnet_fpn_backbone
    with pytest.raises(ValueError, match=r"range \[0,5\], got 6"):
        build("resnet18", trainable_layers=6)
    for layers in ([0, 1], [4, 5], [], [3, 2], [2, 2]):
        with pytest.raises(ValueError, match="Each returned layer"):
            build("resnet18", returned_layers=layers)
    with pytest.raises(ValueError, match="Unknown model resnet19"):
        build("resnet19")
    with pytest.raises(ValueError, match="cifar_resnet20 has no layer1 to layer4"):
        build("cifar_resnet20")
    with pytest.raises(TypeError, match="ExtraFPNBlock, got ReLU"):
        FeaturePyramidNetwork([4], 4, nn.ReLU())
    for channels in ([], [4, 0]):
        with pytest.raises(ShapeError, match="every level needs channels"):
            FeaturePyramidNetwork(channels, 4)


def without(name: str):
    return lambda x: OrderedDict((k, v) for k, v in x.items() if k != name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("C4"), r"expected 3 levels .* got 2: \['C2', 'C3'\]; nothing for level 2 \(4 channels\)"),
        (without("C2"), r"expected 3 levels with channels \[3, 5, 4\], got 2: \['C3', 'C4'\]"),
        (lambda x: OrderedDict(x, C5=x["C4"]), r"expected 3 levels .* got 4: .* level 'C5' is one too many"),
        (lambda x: OrderedDict(), "expected 3 levels .* got 0"),
        (lambda x: OrderedDict(x, C3=x["C4"]), r"level 'C3' must have shape \(N, 5, H, W\), got \[2, 4, 4, 6\]"),
        (lambda x: OrderedDict(x, C2=x["C2"][0, :, :3]), r"level 'C2' must have .* \(N, 3, H, W\), got \[3, 3, 24\]"),
    ],
)
def test_wrong_maps_are_refused_by_name(change, message: str) -> None:
    fpn = FeaturePyramidNetwork(CHANNELS, 6).double()
    with pytest.raises(ShapeError, match=message):
        fpn(change(maps(HALVING)))


def test_p6_of_the_wrong_channels_is_refused_by_name() -> None:
    fpn = FeaturePyramidNetwork(CHANNELS, 6, LastLevelP6P7(7, 6)).double()
    with pytest.raises(ShapeError, match=r"p6 reads 7 channels, but level C of 'C4' is \[2, 4, 4, 6\]"):
        fpn(maps(HALVING))


def test_extra_block_of_ones_own() -> None:
    """The base class says what to give; a subclass joins the pyramid."""

    class Doubled(models.ExtraFPNBlock):
        def forward(self, results, x, names):
            return [*results, results[-1] * 2], [*names, "twice"]

    results = FeaturePyramidNetwork(CHANNELS, 6, Doubled()).double()(maps(HALVING))
    assert_close(results["twice"], results["C4"].detach().numpy() * 2)
    with pytest.raises(NotImplementedError):
        models.ExtraFPNBlock()([], [], [])
