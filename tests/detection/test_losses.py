"""Focal, GIoU and offset losses: values and gradients against their formulas in torch."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tests.comparison import assert_close
from tests.kernels.box_cases import random_boxes
from tests.ops.against_torch import compare
from tests.reference.cases import Input, normal
from tinynet import kernels
from tinynet.autograd import gradcheck
from tinynet.detection import BoxCoder, box_loss, generalized_box_iou_loss, sigmoid_focal_loss

REDUCTIONS = ("none", "mean", "sum")
LOGITS = normal(3, 5, 4, scale=4.0)


def labels(*shape, soft=False):
    def draw(rng, size):
        return rng.random(size) if soft else rng.integers(0, 2, size)

    return Input(shape, draw, requires_grad=False)


def focal(lib, F, inputs, targets, alpha, gamma, reduction):
    """Equation 5 of the paper, term by term."""
    p = inputs.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss if reduction == "none" else getattr(loss, reduction)()


@pytest.mark.torch
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("alpha, gamma", [(0.25, 2), (-1, 2), (0.9, 1.5), (0.5, 1), (0.25, 0), (0, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_focal_loss_against_torch(reduction, alpha, gamma, dtype):
    def function(lib, F, inputs, targets):
        if lib is tinynet:
            return sigmoid_focal_loss(inputs, targets, alpha, gamma, reduction)
        return focal(lib, F, inputs, targets, alpha, gamma, reduction)

    for seed, logits in enumerate((LOGITS, LOGITS.lying("transposed"), normal(1), normal(7, 1, scale=0.01))):
        for soft in (False, True):
            compare(function, logits, labels(*logits.shape, soft=soft), dtype=dtype, seed=seed)


@pytest.mark.parametrize("backend", ["loops", "numpy", "numba"])
def test_focal_loss_is_finite_and_focused(backend):
    with kernels.backend(backend):
        for dtype in (tinynet.float32, tinynet.float64):
            x = tinynet.tensor([1e4, -1e4, 1e4, -1e4, 0, 90, -90], dtype=dtype).requires_grad_()
            t = tinynet.tensor([1, 0, 0, 1, 1, 1, 0], dtype=dtype)
            for gamma in (2, 0.5, 0):
                x.grad = None
                losses = sigmoid_focal_loss(x, t, 0.25, gamma)
                losses.sum().backward()
                assert losses.isfinite().all() and x.grad.isfinite().all()
                np.testing.assert_allclose(losses[2:4].tolist(), [7500, 2500])
                np.testing.assert_allclose(x.grad[2:4].tolist(), [0.75, -0.25])
                assert losses[0].item() == losses[1].item() == 0
        nan = sigmoid_focal_loss(tinynet.tensor([float("nan"), 1.0]), tinynet.tensor([0.0, 1.0]))
        assert nan.isnan().tolist() == [True, False]


def test_focal_loss_of_nothing():
    for reduction in REDUCTIONS:
        x = tinynet.zeros(0, 3, requires_grad=True)
        loss = sigmoid_focal_loss(x, tinynet.zeros(0, 3), reduction=reduction)
        loss.backward(tinynet.ones(*loss.shape))
        assert x.grad.shape == (0, 3)
        if reduction == "sum":
            assert loss.item() == 0


def test_focal_loss_is_the_same_on_one_thread():
    x, t = tinynet.randn(400, 500), (tinynet.rand(400, 500) < 0.1).float()
    before = kernels.get_num_threads()
    try:
        kernels.set_num_threads(1)
        one = sigmoid_focal_loss(x, t, reduction="sum")
    finally:
        kernels.set_num_threads(before)
    assert one.item() == sigmoid_focal_loss(x, t, reduction="sum").item()


def giou_loss(lib, boxes1, boxes2, eps=1e-7):
    a, b = boxes1.unbind(-1), boxes2.unbind(-1)
    width = lib.minimum(a[2], b[2]) - lib.maximum(a[0], b[0])
    height = lib.minimum(a[3], b[3]) - lib.maximum(a[1], b[1])
    shared = lib.where((width > 0) & (height > 0), width * height, lib.zeros_like(width))
    joint = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (lib.maximum(a[2], b[2]) - lib.minimum(a[0], b[0])) * (lib.maximum(a[3], b[3]) - lib.minimum(a[1], b[1]))
    return 1 - shared / (joint + eps) + (hull - joint) / (hull + eps)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["random", "whole", "crowded"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_giou_loss_against_torch(kind, reduction):
    def function(lib, F, boxes1, boxes2):
        if lib is tinynet:
            return generalized_box_iou_loss(boxes1, boxes2, reduction)
        loss = giou_loss(lib, boxes1, boxes2)
        return loss if reduction == "none" else getattr(loss, reduction)()

    def draw(rng, shape):
        return random_boxes(rng, int(np.prod(shape[:-1])), kind, np.float64).reshape(shape)

    for seed, shape in enumerate([(40, 4), (1, 4), (4,), (2, 5, 4)]):
        compare(function, Input(shape, draw), Input(shape, draw), dtype="float64", seed=seed)


def test_giou_loss_by_hand():
    boxes = tinynet.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 1, 1]], requires_grad=True)
    other = tinynet.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [0, 0, 0, 0], [3, 0, 4, 1]])
    loss = generalized_box_iou_loss(boxes, other)
    np.testing.assert_allclose(loss.detach().numpy(), [0, 1 - 1 / 3, 1, 1 + 0.5], atol=1e-6)
    loss.sum().backward()
    assert boxes.grad.isfinite().all()
    empty = generalized_box_iou_loss(tinynet.zeros(0, 4), tinynet.zeros(0, 4), "mean")
    assert empty.shape == () and empty.item() == 0


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
def test_box_loss_against_torch(kind):
    rng = np.random.default_rng(0)
    anchors, boxes = (random_boxes(rng, 12, "random") + np.float32([0, 0, 1, 1]) for _ in range(2))
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def function(lib, F, codes):
        if lib is tinynet:
            return box_loss(kind, coder, tinynet.from_numpy(anchors), tinynet.from_numpy(boxes), codes, {"beta": 0.5})
        offsets = coder.encode_single(tinynet.from_numpy(anchors * 0 + boxes), tinynet.from_numpy(anchors)).numpy()
        if kind == "l1":
            return F.l1_loss(codes, lib.from_numpy(offsets), reduction="sum")
        if kind == "smooth_l1":
            return F.smooth_l1_loss(codes, lib.from_numpy(offsets), reduction="sum", beta=0.5)
        size = lib.from_numpy(anchors[:, 2:] - anchors[:, :2])
        centre = lib.from_numpy(anchors[:, :2]) + 0.5 * size
        moved, grown = codes[:, :2] * size + centre, codes[:, 2:].exp() * size
        return giou_loss(lib, lib.cat([moved - grown / 2, moved + grown / 2], 1), lib.from_numpy(boxes)).sum()

    compare(function, normal(12, 4), dtype="float32")


def test_differentiable():
    rng = np.random.default_rng(0)
    x = tinynet.from_numpy(rng.standard_normal((4, 3)) * 2).requires_grad_()
    t = tinynet.from_numpy(rng.random((4, 3)))
    for gamma in (2.0, 1.5, 0.0):
        for reduction in REDUCTIONS:
            assert gradcheck(lambda a, g=gamma, r=reduction: sigmoid_focal_loss(a, t, 0.3, g, r), (x,))
    boxes, other = (tinynet.from_numpy(random_boxes(rng, 5, "random", np.float64) + [0, 0, 1, 1]) for _ in range(2))
    assert gradcheck(generalized_box_iou_loss, (boxes.requires_grad_(), other.requires_grad_()))


def test_dtype_and_shape_stay():
    for dtype in (tinynet.float32, tinynet.float64):
        x = tinynet.randn(3, 2, dtype=dtype, requires_grad=True)
        loss = sigmoid_focal_loss(x, tinynet.zeros(3, 2, dtype=dtype), reduction="mean")
        loss.backward()
        assert loss.dtype == x.grad.dtype == dtype
        boxes = tinynet.rand(3, 4, dtype=dtype, requires_grad=True)
        loss = generalized_box_iou_loss(boxes, tinynet.ones(3, 4, dtype=dtype), "mean")
        loss.backward()
        assert loss.dtype == boxes.grad.dtype == dtype
    at_zero = sigmoid_focal_loss(tinynet.zeros(2), tinynet.zeros(2))
    assert_close(at_zero, tinynet.full((2,), 0.75 * 0.25 * np.log(2)))


def test_refused():
    x = tinynet.zeros(3, 2)
    with pytest.raises(ValueError, match=r"input has shape \(3, 2\) but the target has shape \(3,\)"):
        sigmoid_focal_loss(x, tinynet.zeros(3))
    with pytest.raises(TypeError, match="inputs is float32 but targets is float64"):
        sigmoid_focal_loss(x, x.double())
    with pytest.raises(TypeError, match="targets must be a Tensor, got list"):
        sigmoid_focal_loss(x, [0, 1])
    with pytest.raises(ValueError, match=r"alpha \(or -1 for none\) must be between 0 and 1, got 1.5"):
        sigmoid_focal_loss(x, x, alpha=1.5)
    with pytest.raises(ValueError, match="gamma must be between 0 and inf, got -2"):
        sigmoid_focal_loss(x, x, gamma=-2)
    with pytest.raises(ValueError, match="reduction must be 'none', 'mean' or 'sum', got 'total'"):
        sigmoid_focal_loss(x, x, reduction="total")
    with pytest.raises(NotImplementedError, match="there is no gradient for targets"):
        sigmoid_focal_loss(x, tinynet.zeros(3, 2, requires_grad=True))
    boxes = tinynet.zeros(3, 4)
    with pytest.raises(ValueError, match=r"boxes1 of shape \(3, 4\) for boxes2 of shape \(2, 4\)"):
        generalized_box_iou_loss(boxes, boxes[:2])
    with pytest.raises(ValueError, match=r"boxes2 must be \(..., 4\)"):
        generalized_box_iou_loss(boxes, x)
    with pytest.raises(ValueError, match="reduction must be 'none', 'mean' or 'sum', got 'max'"):
        generalized_box_iou_loss(boxes, boxes, "max")
    with pytest.raises(ValueError, match="type must be 'l1', 'smooth_l1' or 'giou', got 'l2'"):
        box_loss("l2", BoxCoder((1, 1, 1, 1)), boxes, boxes, boxes)
