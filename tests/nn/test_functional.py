"""nn.functional: torch's signatures, unbatched inputs, options that are refused by name, one_hot, pad."""

from __future__ import annotations

import inspect
import re

import pytest

import tinynet
from tests.ops.against_torch import compare
from tests.reference.cases import normal
from tinynet.nn import functional as F

PUBLIC = sorted(
    name
    for name, value in vars(F).items()
    if inspect.isfunction(value) and value.__module__ == F.__name__ and not name.startswith("_")
)
EXPECTED = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "conv2d",
    "conv_transpose2d", "cross_entropy", "dropout", "fold", "group_norm", "hardtanh", "interpolate",
    "l1_loss", "linear", "log_softmax", "max_pool2d", "mse_loss", "nll_loss", "one_hot", "pad", "relu",
    "relu6", "sigmoid", "smooth_l1_loss", "softmax", "tanh", "unfold",
]  # fmt: skip


def test_the_public_functions_are_these():
    assert sorted(EXPECTED) == PUBLIC


def torch_parameters(function, name: str) -> list[tuple[str, str]]:
    """(name, default) of each parameter, from torch's signature or the first line of its documentation."""
    try:
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, repr(p.default) if p.default is not p.empty else "") for p in parameters]
    except ValueError:
        listed = re.search(rf"{name}\((.*?)\)", function.__doc__).group(1)
        return [tuple((argument.strip() + "=").split("=")[:2]) for argument in listed.split(",")]


@pytest.mark.torch
@pytest.mark.parametrize("name", EXPECTED)
def test_arguments_and_defaults_are_torchs(name):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, name)
    if name == "max_pool2d":  # torch dispatches by a boolean; the function behind has the signature
        function = torch.nn.functional.max_pool2d_with_indices
    own = inspect.signature(getattr(F, name)).parameters.values()
    actual = [(p.name, repr(p.default) if p.default is not p.empty else "") for p in own]
    assert actual == torch_parameters(function, name)


@pytest.mark.torch
@pytest.mark.parametrize(
    "function",
    [
        lambda lib, F, x: F.conv2d(x, lib.ones(2, 3, 2, 2, dtype=x.dtype), stride=2),
        lambda lib, F, x: F.conv_transpose2d(x, lib.ones(3, 2, 2, 2, dtype=x.dtype), stride=2),
        lambda lib, F, x: F.max_pool2d(x, 2, return_indices=True),
        lambda lib, F, x: F.avg_pool2d(x, 2),
        lambda lib, F, x: F.adaptive_avg_pool2d(x, (None, 2)),
        lambda lib, F, x: F.unfold(x, 2),
    ],
)
def test_unbatched_images(function):
    compare(function, normal(3, 5, 6))


@pytest.mark.torch
@pytest.mark.parametrize("sizes", [(1, 2), (0, 1, 2, 0), (-1, 2, 0, -2), (1, 1, 1, 1, 1, 1)])
def test_pad(sizes):
    compare(lambda lib, F, x: F.pad(x, sizes, value=1.5), normal(2, 3, 4, 5))
    compare(lambda lib, F, x: F.pad(x, sizes), normal(2, 3, 4, 5))


@pytest.mark.torch
@pytest.mark.parametrize("labels", [[0, 2, 1], 3, [[1], [0]]])
@pytest.mark.parametrize("classes", [-1, 5])
def test_one_hot(labels, classes):
    torch = pytest.importorskip("torch")
    actual = F.one_hot(tinynet.tensor(labels), classes)
    expected = torch.nn.functional.one_hot(torch.tensor(labels), classes)
    assert actual.dtype == tinynet.int64 and actual.tolist() == expected.tolist()


def test_one_hot_refuses():
    with pytest.raises(ValueError, match=r"one_hot: label 3 in row 1, classes are 0\.\.2"):
        F.one_hot(tinynet.tensor([0, 3]), 3)
    with pytest.raises(IndexError, match="one_hot: label -1 in row 0"):
        F.one_hot(tinynet.tensor([-1, 3]))
    with pytest.raises(TypeError, match="one_hot: labels must be int64, got float32"):
        F.one_hot(tinynet.tensor([0.0]))
    with pytest.raises(ValueError, match="one_hot: an empty tensor"):
        F.one_hot(tinynet.zeros(0, dtype=tinynet.int64))
    assert F.one_hot(tinynet.zeros(0, dtype=tinynet.int64), 3).shape == (0, 3)


x = tinynet.zeros(2, 3)
UNSUPPORTED = {
    "pad mode": (lambda: F.pad(x, (1, 1), mode="reflect"), "pad: only mode='constant'"),
    "size_average": (lambda: F.mse_loss(x, x, size_average=True), "mse_loss: the option size_average"),
    "reduce": (lambda: F.cross_entropy(x, x, reduce=True), "cross_entropy: the option reduce"),
    "mse weight": (lambda: F.mse_loss(x, x, weight=x), "mse_loss: the option weight"),
    "l1 weight": (lambda: F.l1_loss(x, x, weight=x), "l1_loss: the option weight"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_named(name):
    call, message = UNSUPPORTED[name]
    with pytest.raises(NotImplementedError, match=message):
        call()


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "dropout"])
def test_inplace_writes_into_the_input(name):
    x = tinynet.randn(3, 4) * 5
    address = x.data_ptr()
    y = getattr(F, name)(x, inplace=True)
    assert y is x and x.data_ptr() == address and x._version == 1


def test_inplace_on_a_leaf_that_learns_is_refused():
    with pytest.raises(RuntimeError, match="leaf"):
        F.relu(tinynet.randn(3, requires_grad=True), inplace=True)


@pytest.mark.parametrize("dtype", [tinynet.float32, tinynet.float64])
def test_dtype_is_kept(dtype):
    x = tinynet.randn(2, 4, 6, 6, dtype=dtype)
    weight = tinynet.randn(4, 4, 3, 3, dtype=dtype)
    results = [
        F.conv2d(x, weight), F.conv_transpose2d(x, weight), F.unfold(x, 2), F.relu(x), F.relu6(x), F.sigmoid(x),
        F.tanh(x), F.softmax(x, 1), F.log_softmax(x, 1), F.dropout(x, 0.3), F.group_norm(x, 2),
        F.batch_norm(x, None, None, training=True), F.max_pool2d(x, 2), F.avg_pool2d(x, 2),
        F.adaptive_avg_pool2d(x, 2), F.interpolate(x, scale_factor=1.7), F.pad(x, (1, 1)),
        F.interpolate(x, size=9, mode="bilinear"), F.mse_loss(x, x), F.l1_loss(x, x), F.smooth_l1_loss(x, x),
        F.cross_entropy(x, x), F.cross_entropy(x, tinynet.zeros(2, 6, 6, dtype=tinynet.int64), label_smoothing=0.1),
        F.binary_cross_entropy_with_logits(x, x), F.linear(x, weight[0, 0, :1].expand(2, 3).repeat(1, 2)),
    ]  # fmt: skip
    assert {result.dtype for result in results} == {dtype}
    assert F.softmax(x, 1, dtype=tinynet.float64).dtype == tinynet.float64


NOT_TENSORS = {
    "conv2d: input": lambda: F.conv2d(x.numpy(), x),
    "conv2d: weight": lambda: F.conv2d(x[None, None], None),
    "conv2d: bias": lambda: F.conv2d(x[None, None], x[None, None], [1.0]),
    "linear: weight": lambda: F.linear(x, x.numpy()),
    "relu: input": lambda: F.relu([1.0], inplace=True),
    "hardtanh: input": lambda: F.relu6(3.0),
    "log_softmax: input": lambda: F.log_softmax(x.numpy(), 1, dtype=tinynet.float64),
    "dropout: input": lambda: F.dropout(x.numpy()),
    "batch_norm: running_mean": lambda: F.batch_norm(x, x[0].numpy(), x[0]),
    "interpolate: input": lambda: F.interpolate(x.numpy(), scale_factor=2),
    "one_hot: tensor": lambda: F.one_hot([1, 2]),
    "cross_entropy: target": lambda: F.cross_entropy(x, [1, 2]),
    "cross_entropy: input": lambda: F.cross_entropy(x.numpy(), x),
    "mse_loss: target": lambda: F.mse_loss(x, 1.0),
}


@pytest.mark.parametrize("argument", NOT_TENSORS)
def test_what_is_no_tensor_is_named(argument):
    with pytest.raises(TypeError, match=f"^{argument} must be a Tensor, got "):
        NOT_TENSORS[argument]()


NOT_NUMBERS = {
    "hardtanh: min_val": lambda: F.hardtanh(x, "a"),
    "dropout: the probability p": lambda: F.dropout(x, None),
    "cross_entropy: label_smoothing": lambda: F.cross_entropy(x, x, label_smoothing=None),
    "batch_norm: momentum": lambda: F.batch_norm(x, x[0], x[0], training=True, momentum=None),
    "batch_norm: eps": lambda: F.batch_norm(x, None, None, training=True, eps=None),
    "smooth_l1_loss: beta": lambda: F.smooth_l1_loss(x, x, beta="1"),
}


@pytest.mark.parametrize("argument", NOT_NUMBERS)
def test_what_is_no_number_is_named(argument):
    with pytest.raises(TypeError, match=f"^{argument} must be a number, got "):
        NOT_NUMBERS[argument]()
