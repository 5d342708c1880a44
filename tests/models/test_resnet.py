"""The residual nets: torchvision's structure, names and sizes, and torch's numbers from the same source."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tinynet import checkpoint, models
from tinynet.errors import CheckpointError
from tinynet.inspect.torch_twin import torch_twin
from tinynet.models import resnet
from tinynet.models.resnet import BasicBlock, Bottleneck, CifarResNet, ResNet, ZeroPadShortcut

IMAGENET = {
    "resnet18": (BasicBlock, [2, 2, 2, 2], 11_689_512, 122),
    "resnet34": (BasicBlock, [3, 4, 6, 3], 21_797_672, 218),
    "resnet50": (Bottleneck, [3, 4, 6, 3], 25_557_032, 320),
    "resnet101": (Bottleneck, [3, 4, 23, 3], 44_549_160, 626),
    "resnet152": (Bottleneck, [3, 8, 36, 3], 60_192_808, 932),
}
GROUPED_AND_WIDE = {
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


def parameter_count(model: tinynet.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def norm_keys(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def torchvision_keys(block: type, layers: list[int]) -> list[str]:
    """The state_dict keys, in torchvision's order."""
    keys = ["conv1.weight", *norm_keys("bn1")]
    convolutions = 2 if block is BasicBlock else 3
    for stage, blocks in enumerate(layers, 1):
        for index in range(blocks):
            prefix = f"layer{stage}.{index}"
            for number in range(1, convolutions + 1):
                keys += [f"{prefix}.conv{number}.weight", *norm_keys(f"{prefix}.bn{number}")]
            if index == 0 and (stage > 1 or block is Bottleneck):
                keys += [f"{prefix}.downsample.0.weight", *norm_keys(f"{prefix}.downsample.1")]
    return [*keys, "fc.weight", "fc.bias"]


@pytest.mark.parametrize("name", IMAGENET)
@pytest.mark.usefixtures("uninitialised")
def test_imagenet_sizes_and_keys(name: str) -> None:
    block, layers, parameters, keys = IMAGENET[name]
    model = getattr(models, name)()
    state = model.state_dict()
    assert parameter_count(model) == parameters
    assert len(state) == keys
    assert list(state) == torchvision_keys(block, layers)
    assert state["bn1.num_batches_tracked"].shape == ()
    assert state["bn1.num_batches_tracked"].dtype == tinynet.int64


@pytest.mark.parametrize(("name", "parameters"), GROUPED_AND_WIDE.items())
@pytest.mark.usefixtures("uninitialised")
def test_sizes_of_grouped_and_wide_nets(name: str, parameters: int) -> None:
    model = getattr(models, name)()
    assert parameter_count(model) == parameters
    assert list(model.state_dict()) == torchvision_keys(Bottleneck, [3, 4, 6 if "50" in name else 23, 3])


@pytest.mark.parametrize("depth", [18, 34])
@pytest.mark.usefixtures("uninitialised")
def test_plain_nets_have_no_projections(depth: int) -> None:
    plain, residual = getattr(models, f"plain_resnet{depth}")(), getattr(models, f"resnet{depth}")()
    expected = [key for key in residual.state_dict() if "downsample" not in key]
    assert list(plain.state_dict()) == expected
    assert not any(block.residual for block in plain.modules() if isinstance(block, BasicBlock))


@pytest.mark.parametrize(("shortcut", "parameters"), [("A", 21_623_848), ("B", 21_797_672), ("C", 22_716_840)])
@pytest.mark.usefixtures("uninitialised")
def test_shortcut_options_of_resnet34(shortcut: str, parameters: int) -> None:
    assert parameter_count(models.resnet34(shortcut=shortcut)) == parameters


@pytest.mark.parametrize(("depth", "parameters"), CIFAR.items())
@pytest.mark.usefixtures("uninitialised")
def test_cifar_sizes(depth: int, parameters: int) -> None:
    assert parameter_count(getattr(models, f"cifar_resnet{depth}")()) == parameters


@pytest.mark.usefixtures("uninitialised")
def test_cifar_keys_have_no_shortcut_parameters_with_option_a() -> None:
    assert not [key for key in CifarResNet(20).state_dict() if "downsample" in key]
    projected = CifarResNet(20, shortcut="B").state_dict()
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_mean"} <= set(projected)
    assert not [key for key in projected if key.startswith("layer1.0.downsample")]


@pytest.mark.parametrize(("block", "depth"), [(BasicBlock, 21), (BasicBlock, 2), (Bottleneck, 56 - 1), (Bottleneck, 8)])
def test_depths_that_no_block_count_gives(block: type, depth: int) -> None:
    with pytest.raises(ValueError, match=f"got {depth}"):
        CifarResNet(depth, block=block)


def test_unknown_shortcut_and_bad_dilation() -> None:
    with pytest.raises(ValueError, match="'A', 'B', 'C' or 'none'"):
        CifarResNet(8, shortcut="D")
    with pytest.raises(ValueError, match="3-element"):
        ResNet(BasicBlock, [1, 1, 1, 1], replace_stride_with_dilation=[True])
    with pytest.raises(ValueError, match="base_width"):
        BasicBlock(64, 64, base_width=128)
    with pytest.raises(NotImplementedError, match="Dilation"):
        BasicBlock(64, 64, dilation=2)
    with pytest.raises(ValueError, match="BasicBlock has no 1×1"):
        ResNet(BasicBlock, [1, 1, 1, 1], stride_in_1x1=True)


@pytest.mark.parametrize("size", [(5, 8), (4, 7)])
def test_zero_padding_shortcut(size: tuple[int, int]) -> None:
    x = tinynet.randn(2, 3, *size)
    y = ZeroPadShortcut(3, 8, stride=2)(x)
    assert y.shape == (2, 8, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    assert np.array_equal(y[:, 2:5].numpy(), x.numpy()[:, :, ::2, ::2])
    assert not y[:, :2].numpy().any() and not y[:, 5:].numpy().any()
    with pytest.raises(ValueError, match="cannot reduce 8 channels to 3"):
        ZeroPadShortcut(8, 3, stride=1)


def test_plain_blocks_have_no_shortcut() -> None:
    """A block whose last norm gives 0 passes its input on, a plain one nothing."""
    x = tinynet.rand(1, 8, 4, 4)
    for block in (BasicBlock(8, 8), Bottleneck(8, 2)):
        last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
        tinynet.nn.init.constant_(last.weight, 0)
        assert_close(block(x), x)
        block.residual = False
        assert not block(x).detach().numpy().any()
    assert not [key for key in CifarResNet(8, width=2, shortcut="none").state_dict() if "downsample" in key]


def test_where_the_stride_sits() -> None:
    modern, first = Bottleneck(8, 2, stride=2), Bottleneck(8, 2, stride=2, stride_in_1x1=True)
    assert (modern.conv1.stride, modern.conv2.stride) == ((1, 1), (2, 2))
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.usefixtures("uninitialised")
def test_stride_in_1x1_of_a_whole_net() -> None:
    """Caffe's bottlenecks: the stride moves, keys and shapes stay."""
    model = ResNet(Bottleneck, [2, 2, 1, 1], stride_in_1x1=True)
    strides = [(block.conv1.stride[0], block.conv2.stride[0]) for block in (*model.layer1, *model.layer2)]
    assert strides == [(1, 1), (1, 1), (2, 1), (1, 1)]
    usual = ResNet(Bottleneck, [2, 2, 1, 1]).state_dict()
    assert {key: value.shape for key, value in model.state_dict().items()} == {k: v.shape for k, v in usual.items()}


@pytest.mark.parametrize(("size", "usual", "caffe"), [(64, 16, 16), (66, 17, 16), (75, 19, 19), (73, 19, 18)])
@pytest.mark.usefixtures("uninitialised")
def test_pool_of_the_stem(size: int, usual: int, caffe: int) -> None:
    """ceil((s - 3) / 2) + 1 of Caffe against floor((s + 2 - 3) / 2) + 1, s = ceil(size / 2)."""
    x = tinynet.rand(1, 64, math.ceil(size / 2), math.ceil(size / 2))
    ours = ResNet(BasicBlock, [1, 1, 1, 1]).maxpool(x)
    theirs = ResNet(BasicBlock, [1, 1, 1, 1], pool_padding=0, pool_ceil_mode=True).maxpool(x)
    assert (ours.shape[-1], theirs.shape[-1]) == (usual, caffe)
    assert theirs[0, 0, 0, 0] == x[0, 0, :3, :3].max()
    assert ours[0, 0, 0, 0] == x[0, 0, :2, :2].max()


NORMS = {
    "BatchNorm2d": (tinynet.nn.BatchNorm2d, tinynet.nn.BatchNorm2d),
    "FrozenBatchNorm2d": (models.FrozenBatchNorm2d, models.FrozenBatchNorm2d),
    "GroupNorm": (tinynet.nn.GroupNorm, tinynet.nn.GroupNorm),
    "function": (lambda channels: tinynet.nn.GroupNorm(4, channels), tinynet.nn.GroupNorm),
}


@pytest.mark.parametrize("zero_init_residual", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_norm_layers(name: str, zero_init_residual: bool) -> None:
    """Every norm starts as the identity, the last of a block as zero; a step goes through."""
    norm_layer, kind = NORMS[name]
    options = {"norm_layer": norm_layer, "zero_init_residual": zero_init_residual}
    for model in (CifarResNet(11, block=Bottleneck, width=4, shortcut="B", **options), CifarResNet(8, **options)):
        norms = {path: module for path, module in model.named_modules() if type(module) is kind}
        bottleneck = isinstance(model.layer1[0], Bottleneck)
        assert len(norms) == (1 + 3 * 3 + 3 if bottleneck else 1 + 3 * 2)
        last = ".bn3" if bottleneck else ".bn2"
        for path, norm in norms.items():
            expected = 0.0 if zero_init_residual and path.endswith(last) else 1.0
            assert (norm.weight == expected).all() and (norm.bias == 0).all(), path
        model(tinynet.randn(2, 3, 8, 8)).sum().backward()
        assert np.isfinite(model.conv1.weight.grad.numpy()).all()
        assert all(p.grad is not None for p in model.parameters())


def test_group_norm_has_32_groups_or_as_many_as_fit() -> None:
    assert ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=tinynet.nn.GroupNorm).layer4[0].bn1.num_groups == 32
    assert CifarResNet(8, norm_layer=tinynet.nn.GroupNorm).bn1.num_groups == 16


def test_copies_and_pickles() -> None:
    """A model with any norm can be copied and sent to another process."""
    for norm_layer in (None, tinynet.nn.GroupNorm, models.FrozenBatchNorm2d):
        model = CifarResNet(8, norm_layer=norm_layer).eval()
        x = tinynet.randn(1, 3, 8, 8)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert np.array_equal(twin(x).detach().numpy(), model(x).detach().numpy())


def test_zero_init_residual_starts_every_block_as_its_shortcut() -> None:
    for block, depth in ((BasicBlock, 8), (Bottleneck, 11)):
        state = CifarResNet(depth, block=block, width=2, zero_init_residual=True).state_dict()
        last = "bn2" if block is BasicBlock else "bn3"
        zeros = [key for key, value in state.items() if key.endswith(".weight") and not value.numpy().any()]
        assert zeros == [f"layer{stage}.0.{last}.weight" for stage in (1, 2, 3)]


def test_stages_and_dilation() -> None:
    """A 64×64 image: stride 32 in all, 8 where layer3 and layer4 dilate instead."""
    model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=3, replace_stride_with_dilation=[False, True, True])
    x = tinynet.randn(1, 3, 64, 64)
    shapes = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(model, name).register_forward_hook(
            lambda module, args, output, name=name: shapes.update({name: tuple(output.shape)})
        )
    assert model.eval()(x).shape == (1, 3)
    assert shapes == {
        "layer1": (1, 256, 16, 16), "layer2": (1, 512, 8, 8), "layer3": (1, 1024, 8, 8), "layer4": (1, 2048, 8, 8),
    }  # fmt: skip
    assert model.layer4[0].conv2.dilation == (2, 2)


def test_grouped_bottlenecks() -> None:
    """The first block of ResNeXt-50 works on 32 groups of 4 channels."""
    model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=2, groups=32, width_per_group=4)
    assert model.layer1[0].conv2.weight.shape == (128, 4, 3, 3)
    assert model.eval()(tinynet.randn(1, 3, 32, 32)).shape == (1, 2)


CAFFE = {"stride_in_1x1": True, "pool_padding": 0, "pool_ceil_mode": True}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda m: m.CifarResNet(8, width=4, num_classes=5), (2, 3, 13, 13)),
        (lambda m: m.CifarResNet(11, block=m.Bottleneck, width=4, in_channels=1, shortcut="B"), (3, 1, 16, 16)),
        (lambda m: m.CifarResNet(8, width=4, shortcut="none"), (2, 3, 16, 16)),
        (lambda m: m.ResNet(m.Bottleneck, [1, 1, 1, 1], num_classes=7), (2, 3, 65, 65)),
        (lambda m: m.ResNet(m.BasicBlock, [1, 2, 1, 1], num_classes=7, shortcut="A"), (2, 3, 64, 48)),
        (lambda m: m.ResNet(m.Bottleneck, [1, 1, 1, 1], 7, **CAFFE), (2, 3, 65, 66)),
    ],
    ids=["cifar-A", "cifar-bottleneck-B", "cifar-plain", "bottleneck", "basic-A", "caffe"],
)
def test_the_same_source_on_torch_gives_the_same_numbers(build, shape: tuple[int, ...]) -> None:
    """Training mode in float64: logits, all parameter gradients, and the running statistics."""
    import torch

    ours, theirs = build(resnet).double(), build(torch_twin("resnet")).double()
    state = {name: torch.from_numpy(value.numpy().copy()) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal(shape)
    cotangent = np.random.default_rng(1).standard_normal((shape[0], ours.fc.out_features))
    y, expected = ours(tinynet.from_numpy(x)), theirs(torch.from_numpy(x))
    assert_close(y, expected, "logits")
    (y * tinynet.from_numpy(cotangent)).sum().backward()
    (expected * torch.from_numpy(cotangent)).sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, gradients[name].grad, f"gradient of {name}", tolerance=1e-7)
    statistics = theirs.state_dict()
    for name, value in ours.state_dict().items():
        assert_close(value, statistics[name], name)


# --- weights --------------------------------------------------------------------------------------------------------


def test_weights_from_a_file(tmp_path) -> None:
    """A path goes to the checkpoint's loader; every function takes it."""
    tinynet.manual_seed(1)
    saved = models.cifar_resnet20()
    path = tmp_path / "weights.safetensors"
    checkpoint.save(saved.state_dict(), path)
    loaded = models.cifar_resnet20(weights=path)
    for key, value in saved.state_dict().items():
        assert np.array_equal(loaded.state_dict()[key].numpy(), value.numpy()), key
    with pytest.raises(CheckpointError, match=r"layer1\.3"):
        models.get_model("cifar_resnet32", weights=str(path))


@pytest.mark.parametrize("name", [*IMAGENET, *GROUPED_AND_WIDE, *(f"cifar_resnet{depth}" for depth in CIFAR)])
@pytest.mark.usefixtures("uninitialised")
def test_every_function_says_which_architecture_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(checkpoint, "load_weights", lambda *args, **kwargs: calls.append((args, kwargs)))
    model = getattr(models, name)(weights="IMAGENET1K_V2")
    assert calls == [((model, "IMAGENET1K_V2"), {"architecture": name})]
    getattr(models, name)(weights=None)
    assert len(calls) == 1
