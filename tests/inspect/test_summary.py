"""The table of a model: published numbers exactly, geometry as gradients show it, and no trace left behind."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import tinynet
from tinynet import models, nn, no_grad
from tinynet.errors import ShapeError
from tinynet.inspect import summary
from tinynet.nn import functional as F

# Layers of weights in torchvision's families: parameters and GMAC at 224 as published.
PUBLISHED = {
    "resnet18": (11_689_512, "1.814 GMAC"),
    "resnet34": (21_797_672, "3.664 GMAC"),
    "resnet50": (25_557_032, "4.089 GMAC"),
    "resnet101": (44_549_160, "7.801 GMAC"),
    "resnet152": (60_192_808, "11.514 GMAC"),
}
# Araujo, Norris, Sim 2019: receptive fields of the last stage (with the stride in the 3×3 convolution).
FIELDS = {"resnet18": 435, "resnet34": 899, "resnet50": 427, "resnet101": 971, "resnet152": 1451}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name: str) -> None:
    result = summary(getattr(models, name)(), (1, 3, 224, 224), depth=1)
    parameters, macs = PUBLISHED[name]
    assert result.parameters == result.trainable == parameters
    assert f"{parameters:,} (" in str(result) and macs in str(result)
    last = next(row for row in result.rows if row.name == "layer4").outputs[0].geometry
    assert last is not None and last.stride == (32, 32) and last.field == (FIELDS[name],) * 2
    assert sum(row.parameters for row in result.rows if row.depth == 1) == parameters
    assert sum(row.macs for row in result.rows if row.depth == 1) == result.macs


def test_batch_and_short_sizes() -> None:
    one = summary(models.cifar_resnet20(), (3, 32, 32))
    assert one.macs == summary(models.cifar_resnet20(), (1, 3, 32, 32)).macs == 40_551_040
    assert summary(models.cifar_resnet20(), (4, 3, 32, 32)).macs == 4 * one.macs


class Functional(nn.Module):
    """Paths of different strides and fields, functions without modules, a join."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.dilated = nn.Conv2d(3, 3, 3, padding=2, dilation=2)
        self.strided = nn.Conv2d(3, 3, (1, 3), stride=2, padding=(0, 1))
        self.up = nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1)

    def forward(self, x):
        x = self.first(x)
        down = F.max_pool2d(self.dilated(x), 3, stride=2, padding=1)
        other = F.avg_pool2d(self.strided(x), 3, stride=1, padding=1)
        return self.up(down + other) + F.interpolate(down, scale_factor=2)


class Zoo(nn.Module):
    """A functional max pool of one pixel, bilinear resizing, zero-padded shortcut of every second pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 5, padding=2)

    def forward(self, x):
        x = self.conv(x)
        a = F.max_pool2d(x, 1, stride=2)
        b = x[:, :, ::2, ::2]
        return F.interpolate(F.pad(a + b, (0, 0, 0, 0, 1, 1)), size=(36, 36), mode="bilinear", align_corners=False)


def measured_field(model: nn.Module, size: int) -> tuple[int, int]:
    """Rows and columns of the input that any channel of the middle outputs of a linear-like net reaches."""
    widest = [0, 0]
    x = tinynet.randn(1, 2, size, size, requires_grad=True)
    for shift in range(4):  # upsampling makes neighbours differ
        y = model(x)
        cotangent = tinynet.zeros(*y.shape)
        middle = y.shape[2] // 2 + shift
        cotangent[:, :, middle, middle] = 1
        reached = np.zeros((size, size), bool)
        for channel in range(y.shape[1]):
            alone = tinynet.zeros(*y.shape)
            alone[:, channel] = cotangent[:, channel]
            (gradient,) = tinynet.autograd.grad([model(x)], [x], [alone])
            reached |= np.abs(gradient.numpy()[0]).sum(axis=0) > 0
        for axis in (0, 1):
            where = np.flatnonzero(reached.any(axis=1 - axis))
            widest[axis] = max(widest[axis], int(np.ptp(where)) + 1)
    return widest[0], widest[1]


class NoMaximum(nn.Module):
    """Max pooling reaches one pixel of its window only; averages reach all, with the same geometry."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        pool = F.max_pool2d
        try:
            F.max_pool2d = lambda t, k, stride, padding=0: F.avg_pool2d(t, k, stride, padding)
            return self.model(x)
        finally:
            F.max_pool2d = pool


@pytest.mark.parametrize(("model", "stride"), [(Functional(), 2), (Zoo(), 1)])
def test_geometry_is_what_gradients_reach(model: nn.Module, stride: int) -> None:
    value = summary(model, (1, 2, 36 * stride, 36 * stride)).rows[0].outputs[0].geometry
    assert value is not None and value.stride == (stride, stride)
    for parameter in model.parameters():
        parameter.data = parameter.data.abs() + 0.1  # nothing cancels
    assert value.field == measured_field(NoMaximum(model), 36 * stride)


def test_pyramid_of_odd_sizes_has_whole_strides() -> None:
    fpn = models.resnet_fpn_backbone("resnet18", norm_layer=nn.BatchNorm2d)
    outputs = summary(fpn, (3, 75, 91), depth=1).rows[0].outputs
    assert [value.label for value in outputs] == ["['0']", "['1']", "['2']", "['3']", "['pool']"]
    assert [int(value.geometry.stride[0]) for value in outputs] == [4, 8, 16, 32, 64]
    assert all(value.geometry.stride[0] == value.geometry.stride[1] for value in outputs)
    fields = [value.geometry.field[0] for value in outputs]
    assert fields == sorted(fields) and fields[3] == 435 + 2 * 32  # C5 through the 3×3


class Between(nn.Module):
    """Dict in; list and tuple out; a layer of its own twice, one never, and sizes of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.parts = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 3)])
        self.never = nn.Conv2d(3, 3, 3)

    def forward(self, values):
        x = self.twice(self.twice(values["x"]) @ values["y"])
        with no_grad():
            hidden = x * 2
        return [self.parts[0](x), (hidden, x.argmax(1))]


def test_dicts_lists_repeated_and_unused_layers() -> None:
    result = summary(Between(), {"x": (5, 4), "y": (4, 4)})
    assert [(value.label, value.shape) for value in result.rows[0].outputs] == [
        ("[0]", (5, 2)), ("[1][0]", (5, 4)), ("[1][1]", (5,)),
    ]  # fmt: skip
    rows = {row.name: row for row in result.rows[1:]}
    assert [row.name for row in result.rows[1:]] == ["twice", "twice", "parts.0", "parts.1", "never"]
    assert [row.parameters for row in result.rows[1:]] == [20, 0, 10, 15, 84]
    assert rows["never"].outputs == () and rows["parts.1"].outputs == ()
    assert result.parameters == 20 + 10 + 15 + 84
    assert result.macs == 5 * 4 * 4 * 3 + 5 * 4 * 2 and "not called" in str(result)
    assert result.inputs == ("input['x'] 5×4", "input['y'] 4×4")


def test_cost_of_convolutions() -> None:
    x = tinynet.randn(2, 8, 9, 11)
    grouped = nn.Conv2d(8, 12, 3, stride=2, padding=1, dilation=2, groups=4)
    result = summary(grouped, x)
    y = grouped(x)
    assert result.macs == y.numel() * 2 * 9
    columns = F.unfold(x, 3, dilation=2, padding=1, stride=2)
    assert result.largest_columns == (columns.nbytes, "conv2d")
    assert summary(nn.Conv2d(8, 4, 1), x).total_columns == 0  # its input is the matrix
    assert summary(nn.Conv2d(8, 4, 1, stride=2), x).total_columns == 2 * 8 * 5 * 6 * 4
    assert summary(nn.Conv2d(8, 4, 3).double(), (2, 8, 9, 11)).total_columns == 2 * 8 * 9 * 7 * 9 * 8
    transposed = nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2)
    assert summary(transposed, x).macs == x.numel() * 3 * 9


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(inplace=True))
    model[1].eval()  # modes may be mixed
    model[0].weight.grad = tinynet.ones(4, 3, 3, 3)
    state = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator = tinynet.get_rng_state().numpy().tobytes()
    with no_grad():
        summary(model, (2, 3, 8, 8))
        assert not tinynet.is_grad_enabled()
    assert [module.training for module in model.modules()] == modes
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == state
    assert tinynet.get_rng_state().numpy().tobytes() == generator
    assert model[0].weight.grad.sum() == 108 and model[0].bias.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_error_in_forward_leaves_nothing_behind_either() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5))
    with pytest.raises(ValueError):
        summary(model, (2, 3, 8, 8))
    assert model.training and model[1].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_given_tensor_is_neither_changed_nor_followed() -> None:
    x = tinynet.randn(1, 3, 4, 4)
    before = x.numpy().copy()
    summary(nn.ReLU(inplace=True), x)
    assert np.array_equal(x.numpy(), before) and not x.requires_grad


def test_memory_of_a_deep_net_is_not_the_sum_of_its_maps() -> None:
    import tracemalloc

    model = nn.Sequential(*[nn.ReLU() for _ in range(60)])
    tracemalloc.start()
    summary(model, (1, 1, 512, 512))  # a map is 1 MiB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20


@pytest.mark.parametrize("size", [(0, 3), "224", (1, 3, -4, 4), None, 224, ()])
def test_wrong_sizes(size: object) -> None:
    with pytest.raises(ShapeError, match="input_size"):
        summary(nn.ReLU(), size)


def test_table_and_html() -> None:
    class Odd(nn.Module):
        def forward(self, x):
            return OrderedDict([("<b>&", x * 2)])

    result = summary(nn.Sequential(OrderedDict([("<i>", Odd())])), (1, 3, 4, 4))
    html = result._repr_html_()
    assert "<i>" not in html and "<b>&" not in html and "&lt;i&gt;" in html
    lines = str(summary(models.cifar_resnet20(), (3, 32, 32), depth=2)).splitlines()
    assert len({len(line) for line in lines if set(line) == {"─"}}) == 1
    start = lines[2].index("output")
    assert all(line[start - 1] == " " and line[start] in "1o" for line in lines[4:-5])
