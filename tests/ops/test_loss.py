"""Losses: random shapes against torch, extreme logits, ignored rows, weights, wrong labels and shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
from tests.ops.against_torch import bounded, compare
from tests.reference.cases import Input, integers, normal, positive, rounded, uniform
from tinynet.nn import functional as F

dtypes = st.sampled_from(["float32", "float64"])
reductions = st.sampled_from(["mean", "sum", "none"])
smoothings = st.sampled_from([0.0, 0.1, 1.0])
spatial = st.lists(st.integers(1, 3), max_size=2)


def probabilities(*shape: int) -> Input:
    """Distributions over the classes, on axis 1 (or 0 of an unbatched input)."""

    def draw(rng, size):
        values = rng.random(size)
        return values / values.sum(axis=1 if len(size) > 1 else 0, keepdims=True)

    return Input(shape, draw)


@pytest.mark.torch
@bounded
@given(
    st.integers(0, 4), st.integers(1, 4), spatial, st.booleans(), st.sampled_from([-100, 0, 1]), smoothings,
    reductions, dtypes,
)  # fmt: skip
def test_cross_entropy_of_any_shape(batch, classes, size, weighted, ignore_index, smoothing, reduction, dtype):
    settings = {"ignore_index": ignore_index, "label_smoothing": smoothing, "reduction": reduction}
    weight = [positive(classes).constant()] if weighted else []
    compare(
        lambda lib, F, x, y, *w: F.cross_entropy(x, y, *w, **settings),
        normal(batch, classes, *size, scale=3.0),
        integers(0, classes, batch, *size),
        *weight,
        dtype=dtype,
    )


@pytest.mark.torch
@bounded
@given(st.integers(0, 4), st.integers(1, 4), spatial, st.booleans(), smoothings, reductions, dtypes)
def test_cross_entropy_of_probabilities(batch, classes, size, weighted, smoothing, reduction, dtype):
    shape = (batch, classes, *size) if batch or size else (classes,)
    compare(
        lambda lib, F, x, t, *w: F.cross_entropy(x, t, *w, label_smoothing=smoothing, reduction=reduction),
        normal(*shape),
        probabilities(*shape),
        *([positive(classes).constant()] if weighted else []),
        dtype=dtype,
    )


@pytest.mark.torch
@bounded
@given(st.integers(0, 4), st.integers(1, 4), spatial, st.sampled_from([-100, 0, 1]), reductions, dtypes)
def test_nll_loss_of_any_shape(batch, classes, size, ignore_index, reduction, dtype):
    compare(
        lambda lib, F, x, y, w: F.nll_loss(x, y, w, ignore_index=ignore_index, reduction=reduction),
        normal(batch, classes, *size),
        integers(0, classes, batch, *size),
        positive(classes).constant(),
        dtype=dtype,
    )


@pytest.mark.torch
@bounded
@given(st.lists(st.integers(0, 3), max_size=3), st.booleans(), st.booleans(), reductions, dtypes)
def test_binary_cross_entropy_of_any_shape(shape, weighted, positive_weight, reduction, dtype):
    def function(lib, F, x, t, w, p):
        weights = {"weight": w if weighted else None, "pos_weight": p if positive_weight else None}
        return F.binary_cross_entropy_with_logits(x, t, **weights, reduction=reduction)

    weights = [positive(*shape[1:]).constant(), positive(*shape[-1:]).constant()]
    compare(function, normal(*shape, scale=4.0), uniform(0, 1, *shape), *weights, dtype=dtype)


@pytest.mark.torch
@bounded
@given(
    st.sampled_from(["mse_loss", "l1_loss", "smooth_l1_loss"]), st.lists(st.integers(0, 3), max_size=3),
    st.booleans(), reductions, dtypes,
)  # fmt: skip
def test_regression_of_any_shape(name, shape, ties, reduction, dtype):
    drawn = rounded if ties else normal
    compare(
        lambda lib, F, x, t: getattr(F, name)(x, t, reduction=reduction),
        drawn(*shape),
        drawn(*shape),
        dtype=dtype,
    )


@pytest.mark.torch
@pytest.mark.parametrize("scale", [1e4, 1e30])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_enormous_logits_are_finite(scale, smoothing):
    logits, labels = normal(6, 4, scale=scale), integers(0, 4, 6)
    compare(lambda lib, F, x, y: F.cross_entropy(x, y, label_smoothing=smoothing), logits, labels, dtype="float32")
    x = tinynet.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, tinynet.tensor([1]), label_smoothing=smoothing)
    loss.backward()
    assert np.isfinite(loss.item()) and np.isfinite(x.grad.numpy()).all()


@pytest.mark.torch
def test_enormous_binary_logits_are_finite():
    logits = Input((6,), lambda rng, shape: np.array([1e4, -1e4, 1e4, -1e4, 0.0, 1e30]))
    targets = Input((6,), lambda rng, shape: np.array([0.0, 1.0, 1.0, 0.0, 0.5, 1.0]))
    compare(lambda lib, F, x, t: F.binary_cross_entropy_with_logits(x, t), logits, targets, dtype="float32")


@pytest.mark.torch
@pytest.mark.parametrize("beta", [0, 0.25, 3.0])
def test_smooth_l1_bends_at_beta(beta):
    compare(lambda lib, F, x, t: F.smooth_l1_loss(x, t, beta=beta), normal(50), normal(50))


@pytest.mark.torch
def test_an_impossible_other_class_does_not_disturb():
    row = Input((2, 3), lambda rng, shape: np.array([[0.5, -np.inf, 1.0], [1.0, 2.0, -np.inf]]))
    compare(lambda lib, F, x, y: F.cross_entropy(x, y), row, integers(0, 1, 2))


@pytest.mark.torch
def test_transposed_logits():
    compare(
        lambda lib, F, x, y: F.cross_entropy(x.permute(0, 3, 1, 2), y),
        normal(2, 3, 4, 5),
        integers(0, 5, 2, 3, 4),
    )


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("reduction, value", [("mean", [np.nan]), ("sum", [0.0]), ("none", [0.0, 0.0])])
def test_everything_ignored(function, reduction, value):
    x = tinynet.randn(2, 3, requires_grad=True)
    loss = function(x, tinynet.tensor([-100, -100]), reduction=reduction)
    np.testing.assert_array_equal(loss.detach().numpy().ravel(), value)
    loss.sum().backward()
    assert x.grad.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_unbatched_and_byte_labels():
    x = tinynet.tensor([1.0, 2.0, 3.0])
    expected = -x.log_softmax(0)[2].item()
    assert F.cross_entropy(x, tinynet.tensor(2)).item() == pytest.approx(expected, rel=1e-6)
    assert F.cross_entropy(x[None], tinynet.tensor([2], dtype=tinynet.uint8)).item() == pytest.approx(expected)
    assert F.cross_entropy(x, tinynet.tensor(2)).shape == ()


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize(
    "shape, place, label, message",
    [
        ((20, 3), (17,), 3, "label 3 in row 17, classes are 0..2"),
        ((20, 3), (0,), -1, "label -1 in row 0, classes are 0..2"),
        ((2, 4, 3, 5), (1, 2, 3), 9, "label 9 in row 1 at (2, 3), classes are 0..3"),
        ((3,), (), 3, "label 3, classes are 0..2"),
    ],
)
def test_labels_outside_of_the_classes(function, shape, place, label, message):
    labels = np.zeros((shape[0], *shape[2:]) if len(shape) > 1 else (), np.int64)
    labels[place] = label
    for error in (ValueError, IndexError):  # torch raises IndexError
        with pytest.raises(error) as raised:
            function(tinynet.zeros(*shape), tinynet.from_numpy(labels))
        assert str(raised.value) == f"{function.__name__}: {message}"


@pytest.mark.parametrize("dtype", [tinynet.float32, tinynet.int32, tinynet.bool])
def test_labels_of_another_dtype(dtype):
    labels = tinynet.zeros(4, dtype=dtype)
    for function in (F.cross_entropy, F.nll_loss):
        with pytest.raises(TypeError, match=r"labels must be int64 \(or uint8\), got .*; use target.long\(\)"):
            function(tinynet.zeros(4, 3), labels)


x, labels = tinynet.zeros(4, 3), tinynet.zeros(4, dtype=tinynet.int64)
one = tinynet.ones
REFUSED = {
    "(N, 1) against (N,)": (
        lambda: F.mse_loss(one(5, 1), one(5)),
        "mse_loss: the input has shape (5, 1) but the target has shape (5,)",
    ),
    "l1": (lambda: F.l1_loss(one(5), one(5, 1)), "l1_loss: the input has shape (5,) but the target has"),
    "smooth l1": (lambda: F.smooth_l1_loss(one(5), one(1)), "smooth_l1_loss: the input has shape (5,)"),
    "binary": (
        lambda: F.binary_cross_entropy_with_logits(one(5, 1), one(5)),
        "binary_cross_entropy_with_logits: the input has shape (5, 1) but",
    ),
    "binary weight": (
        lambda: F.binary_cross_entropy_with_logits(one(5, 2), one(5, 2), weight=one(3)),
        "weight of shape (3,) does not broadcast to the input (5, 2)",
    ),
    "binary weight larger": (
        lambda: F.binary_cross_entropy_with_logits(one(2), one(2), pos_weight=one(5, 2)),
        "pos_weight of shape (5, 2) does not broadcast to the input (2,)",
    ),
    "number of labels": (
        lambda: F.cross_entropy(x, labels[:3]),
        "the target has shape (3,), but an input of shape (4, 3) needs class indices of shape (4,)",
    ),
    "integer labels of the input's shape": (lambda: F.cross_entropy(x, x.long()), "class indices of shape (4,)"),
    "class weights": (
        lambda: F.cross_entropy(x, labels, one(4)),
        "cross_entropy: weight of shape (4,) must be (3,), one value per class",
    ),
    "smoothing": (lambda: F.cross_entropy(x, labels, label_smoothing=1.5), "must be between 0 and 1, got 1.5"),
    "reduction": (
        lambda: F.cross_entropy(x, labels, reduction="batchmean"),
        "reduction must be 'none', 'mean' or 'sum', got 'batchmean'",
    ),
    "ignore_index with probabilities": (lambda: F.cross_entropy(x, x, ignore_index=1), "ignore_index=1 needs labels"),
    "no classes": (lambda: F.cross_entropy(one(4, 0), labels), "with C > 0, got shape (4, 0)"),
    "beta": (lambda: F.smooth_l1_loss(x, x, beta=-1), "beta must be between 0 and inf, got -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_explained(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_dtypes_are_explained():
    with pytest.raises(TypeError, match="mse_loss: input is float32 but target is float64"):
        F.mse_loss(x, x.double())
    with pytest.raises(TypeError, match="l1_loss: input is float32 but target is int64"):
        F.l1_loss(x, x.long())


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_weights_are_constants(name):
    with pytest.raises(NotImplementedError, match=f"there is no gradient for {name}; pass {name}.detach"):
        F.binary_cross_entropy_with_logits(x, x, **{name: one(3, requires_grad=True)})
    with pytest.raises(NotImplementedError, match="cross_entropy: there is no gradient for weight"):
        F.cross_entropy(x, labels, one(3, requires_grad=True))
