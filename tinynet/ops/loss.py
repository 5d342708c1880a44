"""Losses: ``torch.nn.functional.cross_entropy``, ``nll_loss``, ``binary_cross_entropy_with_logits``,
``mse_loss``, ``l1_loss`` and ``smooth_l1_loss``.

``reduction`` is "none" (one loss per row or element), "sum" or "mean". The classes of a classification lie on
axis 1 of the input, (N, C) or (N, C, d1, ...), or on axis 0 of an unbatched (C,). A row is one prediction.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ShapeError
from ..tape import Operation
from . import checks
from .activation import log_softmax, sigmoid


class NegativeLogLikelihood(Operation):
    """-weight[label] · x[label] per row; "mean" divides by the sum of those weights over what is not ignored.

    If every row is ignored, that sum is 0: "mean" is NaN, "sum" is 0, and the gradient is 0, as in torch.
    """

    name = "nll_loss"

    @staticmethod
    def forward(ctx, input, target, weight=None, *, ignore_index=-100, reduction="mean"):
        _check_classes("nll_loss", input, weight, reduction, ctx)
        labels, valid, row_weight = _check_labels("nll_loss", input, target, weight, ignore_index)
        total = row_weight.sum()
        ctx.save(
            labels=labels, row_weight=row_weight, valid=valid,
            input_shape=input.shape, total=total, reduction=reduction,
        )  # fmt: skip
        return _reduced(_picked(_rows(input), labels, valid, row_weight), reduction, total, target.shape)

    @staticmethod
    def backward(ctx, grad):
        scale = _row_scale(grad, ctx.reduction, ctx.total, ctx.valid)
        out = np.zeros(_rows_shape(ctx.input_shape), grad.dtype)
        np.put_along_axis(out, ctx.labels[:, None], (-ctx.row_weight * scale)[:, None], axis=1)
        return out.reshape(ctx.input_shape), None, None


class CrossEntropy(Operation):
    """-Σ_c q[c] · log softmax(x)[c] per row; the gradient is softmax(x) · Σ_c q[c] - q.

    q[c] = (1 - ε) · weight[label] · [c = label] + ε/C · weight[c], where ε is ``label_smoothing``; q = 0 for
    the label ``ignore_index``. "mean" divides by Σ weight[label] over what is not ignored: NaN if all is (the
    gradient is then 0), as in torch.
    """

    name = "cross_entropy"

    @staticmethod
    def forward(ctx, input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        _check_classes("cross_entropy", input, weight, reduction, ctx)
        checks.number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
        labels, valid, row_weight = _check_labels("cross_entropy", input, target, weight, ignore_index)
        log_probabilities = log_softmax(_rows(input), axis=1)
        losses = _picked(log_probabilities, labels, valid, row_weight)
        if label_smoothing:
            spread = -(_per_class(weight, input) * log_probabilities).mean(axis=1)
            losses = (1 - label_smoothing) * losses + label_smoothing * np.where(valid, spread, 0)
        total = row_weight.sum()
        ctx.save(
            log_probabilities=log_probabilities, labels=labels, row_weight=row_weight, valid=valid,
            input_shape=input.shape, weight=weight, total=total, reduction=reduction,
            smoothing=label_smoothing,
        )  # fmt: skip
        return _reduced(losses, reduction, total, target.shape)

    @staticmethod
    def backward(ctx, grad):
        q = np.zeros_like(ctx.log_probabilities)
        np.put_along_axis(q, ctx.labels[:, None], (1 - ctx.smoothing) * ctx.row_weight[:, None], axis=1)
        if ctx.smoothing:
            q += ctx.smoothing / q.shape[1] * _per_class(ctx.weight, q)
        slope = np.exp(ctx.log_probabilities) * q.sum(axis=1, keepdims=True) - q
        scale = _row_scale(grad, ctx.reduction, ctx.total, ctx.valid)
        return (slope * scale[:, None]).reshape(ctx.input_shape), None, None


class SoftCrossEntropy(Operation):
    """:class:`CrossEntropy` against probabilities t of the input's shape: q = weight · ((1 - ε) · t + ε/C).

    "mean" divides by the number of rows. The target has a gradient too.
    """

    name = "cross_entropy"

    @staticmethod
    def forward(ctx, input, target, weight=None, *, reduction="mean", label_smoothing=0.0):
        _check_classes("cross_entropy", input, weight, reduction, ctx)
        checks.number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
        checks.floating("cross_entropy", input=input, target=target)
        checks.same_shape("cross_entropy", input, target)
        log_probabilities = log_softmax(_rows(input), axis=1)
        losses = -(_soft_target(target, weight, label_smoothing) * log_probabilities).sum(axis=1)
        ctx.save(
            log_probabilities=log_probabilities, target=target, weight=weight,
            total=losses.size, reduction=reduction, smoothing=label_smoothing,
        )  # fmt: skip
        return _reduced(losses, reduction, losses.size, _target_shape(input))

    @staticmethod
    def backward(ctx, grad):
        rows, _, places = ctx.log_probabilities.shape
        scale = _row_scale(grad, ctx.reduction, ctx.total, np.True_, (rows, places))[:, None]
        grad_input = grad_target = None
        if ctx.needs_input_grad[0]:
            q = _soft_target(ctx.target, ctx.weight, ctx.smoothing)
            slope = np.exp(ctx.log_probabilities) * q.sum(axis=1, keepdims=True) - q
            grad_input = (slope * scale).reshape(ctx.target.shape)
        if ctx.needs_input_grad[1]:
            slope = -(1 - ctx.smoothing) * _per_class(ctx.weight, grad) * ctx.log_probabilities
            grad_target = (slope * scale).reshape(ctx.target.shape)
        return grad_input, grad_target, None


class BinaryCrossEntropyWithLogits(Operation):
    """weight · ((1 - t)·x + (1 + (pos_weight - 1)·t) · log(1 + exp(-x))), finite for every finite x."""

    name = "binary_cross_entropy_with_logits"

    @staticmethod
    def forward(ctx, input, target, weight=None, pos_weight=None, *, reduction="mean"):
        name = "binary_cross_entropy_with_logits"
        checks.reduction(name, reduction)
        checks.floating(name, input=input, target=target, weight=weight, pos_weight=pos_weight)
        checks.same_shape(name, input, target)
        for argument, array, needs_grad in zip(
            ("weight", "pos_weight"), (weight, pos_weight), ctx.needs_input_grad[2:]
        ):
            checks.constant(name, argument, needs_grad)
            _check_spreads(name, argument, array, input.shape)
        losses = (1 - target) * input + _positive_factor(pos_weight, target) * _softplus(-input)
        if weight is not None:
            losses = losses * weight
        ctx.save(input=input, target=target, weight=weight, pos_weight=pos_weight, reduction=reduction)
        return _reduced(losses, reduction, losses.size, input.shape)

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.input, ctx.target
        scale = _element_scale(grad, ctx.reduction, x) * (1 if ctx.weight is None else ctx.weight)
        grad_input = grad_target = None
        if ctx.needs_input_grad[0]:
            grad_input = scale * (1 - target - _positive_factor(ctx.pos_weight, target) * sigmoid(-x))
        if ctx.needs_input_grad[1]:
            slope = 0 if ctx.pos_weight is None else (ctx.pos_weight - 1) * _softplus(-x)
            grad_target = scale * (slope - x)
        return grad_input, grad_target, None, None


class MeanSquaredError(Operation):
    """(x - target)² per element."""

    name = "mse_loss"

    @staticmethod
    def forward(ctx, input, target, *, reduction="mean"):
        _check_regression("mse_loss", input, target, reduction)
        ctx.save(input=input, target=target, reduction=reduction)
        return _reduced(np.square(input - target), reduction, input.size, input.shape)

    @staticmethod
    def backward(ctx, grad):
        return _both_ways(ctx, 2 * (ctx.input - ctx.target), grad)


class L1(Operation):
    """|x - target| per element; the gradient is 0 where they are equal."""

    name = "l1_loss"

    @staticmethod
    def forward(ctx, input, target, *, reduction="mean"):
        _check_regression("l1_loss", input, target, reduction)
        ctx.save(input=input, target=target, reduction=reduction)
        return _reduced(np.abs(input - target), reduction, input.size, input.shape)

    @staticmethod
    def backward(ctx, grad):
        return _both_ways(ctx, np.sign(ctx.input - ctx.target), grad)


class SmoothL1(Operation):
    """d²/(2·beta) where d = |x - target| < beta, else d - beta/2; beta = 0 is the L1 loss."""

    name = "smooth_l1_loss"

    @staticmethod
    def forward(ctx, input, target, *, beta=1.0, reduction="mean"):
        _check_regression("smooth_l1_loss", input, target, reduction)
        beta = checks.number("smooth_l1_loss", "beta", beta, low=0)
        distance = np.abs(input - target)
        losses = distance - 0.5 * beta
        if beta:
            losses = np.where(distance < beta, 0.5 / beta * distance * distance, losses)
        ctx.save(input=input, target=target, beta=beta, reduction=reduction)
        return _reduced(losses, reduction, input.size, input.shape)

    @staticmethod
    def backward(ctx, grad):
        difference = ctx.input - ctx.target
        slope = np.clip(difference / ctx.beta, -1, 1) if ctx.beta else np.sign(difference)
        return _both_ways(ctx, slope, grad)


# Rows of a classification: scores as (batch, C, places), labels as (batch, places)


def _rows_shape(shape) -> tuple[int, int, int]:
    return (1, *shape, 1) if len(shape) == 1 else (shape[0], shape[1], math.prod(shape[2:]))


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(_rows_shape(x.shape))


def _target_shape(input: np.ndarray) -> tuple[int, ...]:
    """The shape of one label per row."""
    return () if input.ndim == 1 else (input.shape[0], *input.shape[2:])


def _per_class(weight, like: np.ndarray) -> np.ndarray:
    """One weight per class, to multiply (batch, C, places) with."""
    return np.ones((1, 1), like.dtype) if weight is None else weight[:, None]


def _soft_target(target, weight, smoothing) -> np.ndarray:
    target = _rows(target)
    return _per_class(weight, target) * ((1 - smoothing) * target + smoothing / target.shape[1])


def _picked(scores, labels, valid, row_weight) -> np.ndarray:
    """-row_weight · the label's score, 0 where the label is ignored."""
    chosen = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return np.where(valid, -row_weight * chosen, 0)


def _reduced(losses: np.ndarray, reduction: str, total, shape) -> np.ndarray:
    if reduction == "none":
        return losses.reshape(shape)
    summed = np.asarray(losses.sum())
    if reduction == "sum":
        return summed
    with np.errstate(invalid="ignore"):  # nothing to average: 0 / 0 is NaN, as in torch
        return np.asarray(summed / losses.dtype.type(total))


def _row_scale(grad, reduction, total, valid, shape=None) -> np.ndarray:
    """The gradient of each row's loss as (batch, places), 0 for ignored rows."""
    shape = shape or valid.shape
    if reduction == "none":
        grad = grad.reshape(shape)
    elif reduction == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):  # all rows ignored: not used below
            grad = grad / grad.dtype.type(total)
    return np.where(valid, np.broadcast_to(grad, shape), grad.dtype.type(0))


def _check_classes(name, input, weight, reduction, ctx) -> None:
    checks.reduction(name, reduction)
    checks.floating(name, input=input, weight=weight)
    if input.ndim == 0 or _rows_shape(input.shape)[1] == 0:
        raise ShapeError(f"{name}: the input must be (C,) or (N, C, ...) with C > 0, got shape {input.shape}")
    classes = _rows_shape(input.shape)[1]
    if weight is not None and weight.shape != (classes,):
        raise ShapeError(f"{name}: weight of shape {weight.shape} must be ({classes},), one value per class")
    checks.constant(name, "weight", ctx.needs_input_grad[2])


def _check_labels(name, input, target, weight, ignore_index):
    """(labels, valid, weight of each row), as (batch, places); ignored labels and their weight are 0."""
    expected = _target_shape(input)
    checks.label_dtype(name, target)
    if target.shape != expected:
        raise ShapeError(
            f"{name}: the target has shape {target.shape}, but an input of shape {input.shape} "
            f"needs class indices of shape {expected}"
        )
    valid = target != ignore_index
    batch, classes, places = _rows_shape(input.shape)
    checks.labels(name, target, valid, classes)
    labels, valid = [array.reshape(batch, places) for array in (np.where(valid, target, 0), valid)]
    labels = labels.astype(np.int64, copy=False)
    if weight is None:
        return labels, valid, valid.astype(input.dtype)
    return labels, valid, np.where(valid, weight[labels], input.dtype.type(0))


# Elements of a regression


def _check_regression(name, input, target, reduction) -> None:
    checks.reduction(name, reduction)
    checks.floating(name, input=input, target=target)
    checks.same_shape(name, input, target)


def _element_scale(grad: np.ndarray, reduction: str, input: np.ndarray) -> np.ndarray:
    """The gradient of each element's loss."""
    return grad / grad.dtype.type(input.size) if reduction == "mean" and input.size else grad


def _both_ways(ctx, slope: np.ndarray, grad: np.ndarray):
    """The gradients of a loss of input - target, whose derivative is ``slope``."""
    grad_input = slope * _element_scale(grad, ctx.reduction, ctx.input)
    return grad_input, -grad_input if ctx.needs_input_grad[1] else None


def _check_spreads(name, argument, array, shape) -> None:
    """``array`` is None or broadcasts to ``shape``."""
    if array is None:
        return
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{name}: {argument} of shape {array.shape} does not broadcast to the input {shape}")


def _softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _positive_factor(pos_weight, target):
    """1 + (pos_weight - 1)·target: what the positive part of the loss counts."""
    return 1 if pos_weight is None else 1 + (pos_weight - 1) * target
