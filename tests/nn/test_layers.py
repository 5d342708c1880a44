"""Every layer beside torch's: repr, state_dict names, output, all gradients, float32 and float64."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_same_results
from tests.nn.models import image, net, run, same_weights, tensor
from tinynet import nn
from tinynet.errors import ShapeError

IMAGE = (2, 4, 9, 7)

LAYERS = {
    "conv": (lambda nn: nn.Conv2d(4, 6, 3), [IMAGE]),
    "conv settings": (
        lambda nn: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3), groups=2, bias=False),
        [IMAGE],
    ),
    "conv same": (lambda nn: nn.Conv2d(4, 2, 3, padding="same"), [IMAGE]),
    "conv valid": (lambda nn: nn.Conv2d(4, 2, 3, padding="valid"), [IMAGE]),
    "conv unbatched": (lambda nn: nn.Conv2d(4, 2, 3), [IMAGE[1:]]),
    "conv empty batch": (lambda nn: nn.Conv2d(4, 2, 3), [(0, 4, 5, 5)]),
    "transposed": (lambda nn: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), [IMAGE]),
    "transposed without bias": (lambda nn: nn.ConvTranspose2d(4, 3, (2, 3), bias=False, dilation=2), [IMAGE]),
    "linear": (lambda nn: nn.Linear(5, 3), [(4, 5)]),
    "linear without bias": (lambda nn: nn.Linear(5, 3, bias=False), [(2, 4, 5)]),
    "linear of a vector": (lambda nn: nn.Linear(5, 3), [(5,)]),
    "identity": (lambda nn: nn.Identity(3, unused=4), [IMAGE]),
    "batch norm 1d": (lambda nn: nn.BatchNorm1d(5), [(6, 5)]),
    "batch norm 1d sequence": (lambda nn: nn.BatchNorm1d(5), [(3, 5, 4)]),
    "batch norm 2d": (lambda nn: nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), [IMAGE]),
    "batch norm not affine": (lambda nn: nn.BatchNorm2d(4, affine=False), [IMAGE]),
    "batch norm without statistics": (lambda nn: nn.BatchNorm2d(4, track_running_stats=False), [IMAGE]),
    "batch norm without bias": (lambda nn: nn.BatchNorm2d(4, bias=False), [IMAGE]),
    "batch norm in evaluation": (lambda nn: nn.BatchNorm2d(4).eval(), [IMAGE]),
    "group norm": (lambda nn: nn.GroupNorm(2, 4), [IMAGE]),
    "group norm not affine": (lambda nn: nn.GroupNorm(4, 4, affine=False), [IMAGE]),
    "group norm without bias": (lambda nn: nn.GroupNorm(2, 4, bias=False), [IMAGE]),
    "relu": (lambda nn: nn.ReLU(), [IMAGE]),
    "relu6": (lambda nn: nn.ReLU6(), [IMAGE]),
    "hardtanh": (lambda nn: nn.Hardtanh(-0.5, 0.25), [IMAGE]),
    "sigmoid": (lambda nn: nn.Sigmoid(), [IMAGE]),
    "tanh": (lambda nn: nn.Tanh(), [IMAGE]),
    "softmax": (lambda nn: nn.Softmax(dim=1), [IMAGE]),
    "log softmax": (lambda nn: nn.LogSoftmax(dim=-1), [IMAGE]),
    "dropout in evaluation": (lambda nn: nn.Dropout(0.7).eval(), [IMAGE]),
    "flatten": (lambda nn: nn.Flatten(), [IMAGE]),
    "flatten some": (lambda nn: nn.Flatten(2, 3), [IMAGE]),
    "max pool": (lambda nn: nn.MaxPool2d(3, 2, padding=1), [IMAGE]),
    "max pool settings": (lambda nn: nn.MaxPool2d((2, 3), dilation=2, ceil_mode=True), [IMAGE]),
    "average pool": (lambda nn: nn.AvgPool2d(3, 2, 1, True, False), [IMAGE]),
    "average pool divisor": (lambda nn: nn.AvgPool2d((2, 3), divisor_override=5), [IMAGE]),
    "adaptive pool": (lambda nn: nn.AdaptiveAvgPool2d((5, None)), [IMAGE]),
    "upsample": (lambda nn: nn.Upsample(scale_factor=2), [IMAGE]),
    "upsample pair": (lambda nn: nn.Upsample(scale_factor=(1.5, 2)), [IMAGE]),
    "upsample size": (lambda nn: nn.Upsample((13, 4), mode="bilinear", align_corners=True), [IMAGE]),
    "nested": (net, [(2, 3, 9, 8)]),
    "mse": (lambda nn: nn.MSELoss(), [(4, 3), (4, 3)]),
    "l1": (lambda nn: nn.L1Loss(reduction="none"), [(4, 3), (4, 3)]),
    "smooth l1": (lambda nn: nn.SmoothL1Loss(reduction="sum", beta=0.5), [(4, 3), (4, 3)]),
}


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(torch, name, dtype):
    build, shapes = LAYERS[name]
    ours, theirs = build(nn), build(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    same_weights(torch, ours, theirs)
    if dtype == "float64":
        ours, theirs = ours.double(), theirs.double()
    inputs = [image(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]
    assert_same_results(run(tinynet, ours, inputs), run(torch, theirs, inputs))


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_constructors_have_torchs_arguments(torch, name):
    kinds = {type(module) for module in LAYERS[name][0](nn).modules()}
    for kind in kinds:
        if not hasattr(torch.nn, kind.__name__) or kind.__name__ in ("Sequential", "ReLU6"):
            continue
        mine = inspect.signature(kind).parameters
        reference = inspect.signature(getattr(torch.nn, kind.__name__)).parameters
        names = [n for n in reference if n not in ("min_value", "max_value", "args", "kwargs")]
        assert [n for n in mine if n not in ("args", "kwargs")] == names, kind
        for n in names:
            assert mine[n].kind == reference[n].kind, (kind, n)
            assert mine[n].default == reference[n].default, (kind, n)


@pytest.mark.torch
@pytest.mark.parametrize(
    "build",
    [
        lambda lib: lib.nn.CrossEntropyLoss(),
        lambda lib: lib.nn.CrossEntropyLoss(
            lib.from_numpy(np.array([1, 2, 0.5, 0.1, 1], np.float32)), ignore_index=2, reduction="sum",
            label_smoothing=0.2,
        ),
        lambda lib: lib.nn.NLLLoss(lib.from_numpy(np.array([1, 2, 0.5, 0.1, 1], np.float32)), None, 3),
    ],
)  # fmt: skip
def test_class_losses(torch, build):
    ours, theirs = build(tinynet), build(torch)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    inputs = [image(6, 5), np.array([0, 2, 3, 4, 1, 1])]
    assert_same_results(run(tinynet, ours, inputs), run(torch, theirs, inputs))


@pytest.mark.torch
def test_binary_loss(torch):
    def build(lib):
        weights = [lib.from_numpy(np.array(w, np.float32)) for w in ([1, 2, 3], [3, 1, 0.5])]
        return lib.nn.BCEWithLogitsLoss(weights[0], pos_weight=weights[1])

    ours, theirs = build(tinynet), build(torch)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "pos_weight"]
    target = (image(4, 3) > 0).astype(np.float32)
    inputs = [image(4, 3, seed=5)]
    for module, lib in ((ours, tinynet), (theirs, torch)):
        forward = module.forward
        module.forward = lambda x, forward=forward, lib=lib: forward(x, lib.from_numpy(target))
    assert_same_results(run(tinynet, ours, inputs), run(torch, theirs, inputs))


def test_max_pool_indices():
    values, indices = nn.MaxPool2d(2, return_indices=True)(tensor(1, 1, 4, 4))
    assert values.shape == indices.shape == (1, 1, 2, 2) and indices.dtype == tinynet.int64


@pytest.mark.torch
@pytest.mark.parametrize("size", [(17, 13), (18, 14), (2, 6, 18, 13)])
def test_transposed_convolution_to_a_given_size(torch, size):
    ours, theirs = (lib.ConvTranspose2d(4, 6, 3, stride=2, padding=1) for lib in (nn, torch.nn))
    same_weights(torch, ours, theirs)
    x = image(*IMAGE)
    mine = ours(tinynet.from_numpy(x), output_size=size)
    assert tuple(mine.shape[-2:]) == size[-2:]
    expected = theirs(torch.from_numpy(x), output_size=size)
    assert np.allclose(mine.detach().numpy(), expected.detach().numpy(), atol=1e-5)


def test_transposed_convolution_to_an_impossible_size():
    with pytest.raises(ShapeError, match=r"\[19, 13\].*\[17, 13\] to \[18, 14\]"):
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)(tensor(*IMAGE), output_size=(19, 13))


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: nn.Conv2d(5, 6, 3, groups=2), ValueError, "2 groups do not divide in_channels = 5"),
        (lambda: nn.Conv2d(6, 5, 3, groups=2), ValueError, "2 groups do not divide out_channels = 5"),
        (lambda: nn.ConvTranspose2d(6, 5, 3, groups=2), ValueError, "out_channels = 5"),
        (lambda: nn.Conv2d(0, 5, 3), ValueError, "in_channels.*0"),
        (lambda: nn.Conv2d(3, 2.5, 3), TypeError, "out_channels.*2.5"),
        (lambda: nn.Conv2d(3, 5, 3, groups=0), ValueError, "groups.*0"),
        (lambda: nn.Conv2d(3, 5, 0), ValueError, "kernel_size.*0"),
        (lambda: nn.Conv2d(3, 5, (3, 3, 3)), ValueError, "kernel_size.*3, 3, 3"),
        (lambda: nn.Conv2d(3, 5, 3, stride=0), ValueError, "stride.*0"),
        (lambda: nn.Conv2d(3, 5, 3, padding=-1), ValueError, "padding.*-1"),
        (lambda: nn.Conv2d(3, 5, 3, dilation=0), ValueError, "dilation.*0"),
        (lambda: nn.Conv2d(3, 5, 3, padding="full"), ValueError, "full"),
        (lambda: nn.Conv2d(3, 5, 3, padding="same", stride=2), ValueError, "same.*stride"),
        (lambda: nn.Conv2d(3, 5, 3, padding_mode="reflect"), NotImplementedError, "reflect"),
        (lambda: nn.ConvTranspose2d(3, 5, 3, padding="same"), TypeError, "same"),
        (lambda: nn.Conv2d(3, 5, 3, device="cuda"), RuntimeError, "cuda"),
        (lambda: nn.Linear(3, -1), ValueError, "out_features.*-1"),
        (lambda: nn.Linear("3", 1), TypeError, "in_features"),
        (lambda: nn.BatchNorm2d(2.0), TypeError, "num_features"),
        (lambda: nn.GroupNorm(3, 8), ValueError, "3 groups do not divide num_channels = 8"),
        (lambda: nn.Dropout(1.5), ValueError, "1.5"),
        (lambda: nn.Dropout(float("nan")), ValueError, "nan"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "max_val"),
        (lambda: nn.MSELoss(reduction="average"), ValueError, "average"),
        (lambda: nn.L1Loss(False), NotImplementedError, "size_average"),
        (lambda: nn.Conv3d(1, 1, 1), NotImplementedError, "Conv2d"),
        (lambda: nn.BatchNorm3d(1), NotImplementedError, "BatchNorm2d"),
    ],
)
def test_settings_that_do_not_fit_are_refused(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_layers_take_a_dtype():
    model = [nn.Conv2d(1, 1, 1, dtype=tinynet.float64), nn.Linear(1, 1, dtype=tinynet.float64, device="cpu"),
             nn.BatchNorm1d(1, dtype=tinynet.float64), nn.GroupNorm(1, 1, dtype=tinynet.float64)]  # fmt: skip
    for layer in model:
        assert {p.dtype for p in layer.parameters()} == {tinynet.float64}
    assert model[2].running_var.dtype == tinynet.float64


def test_in_place_layers_change_their_input_and_dropout_depends_on_the_mode():
    for layer in (nn.ReLU(inplace=True), nn.ReLU6(inplace=True), nn.Hardtanh(inplace=True), nn.Dropout(0.5, True)):
        x = tensor(100)
        before = x.tolist()
        y = layer(x)
        assert y is x and y.tolist() != before
    layer = nn.Dropout(0.25)
    kept = layer(tinynet.ones(40000)).numpy()
    assert set(np.unique(kept)) == {0, np.float32(1 / 0.75)} and abs((kept == 0).mean() - 0.25) < 0.01
    assert (layer.eval()(tinynet.ones(10)).numpy() == 1).all()


def test_a_fresh_copy_of_a_used_net_gives_the_same_output():
    model = net(nn)
    x = tensor(2, 3, 8, 8)
    model(x).sum().backward()
    twin = copy.deepcopy(model)
    assert all(p.grad is None for p in twin.parameters())  # as torch
    assert np.array_equal(twin.eval()(x).detach().numpy(), model.eval()(x).detach().numpy())


def test_relu6_ends_at_six():
    assert nn.ReLU6()(tinynet.tensor([-1.0, 5.5, 7.0])).tolist() == [0.0, 5.5, 6.0]
