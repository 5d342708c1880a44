"""Batch and group normalization: ``torch.nn.functional.batch_norm`` (Ioffe & Szegedy 2015) and ``group_norm``
(Wu & He 2018).

Both normalise with the biased variance. Backward recomputes the normalised values from the input, which its
producer keeps alive anyway, instead of storing them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import kernels
from ..errors import DtypeError, ShapeError
from ..kernels.group_norm import group_norm, group_norm_backward
from ..kernels.registry import runs_compiled
from ..kernels.sync_batch_norm import input_gradient_of_all, local_gradient_sums, local_moments, moments_of_all
from ..tape import Operation
from . import checks


class BatchNorm(Operation):
    """(x - mean) / sqrt(variance + eps) · weight + bias per channel, over batch and space.

    In training the statistics are the batch's, and ``running_mean`` and ``running_var`` (arrays, changed in
    place) move towards them by ``momentum``; running_var takes the unbiased variance, n / (n - 1). Otherwise
    the statistics are the running ones, and constants. An empty batch leaves the running ones as they were.

    With `ranks`, which can `gather(array)` to (ranks, ...), the batch in training is that of all ranks.
    """

    name = "batch_norm"

    @staticmethod
    def forward(ctx, input, weight=None, bias=None, *, running_mean, running_var, training, momentum, eps, ranks=None):
        _check_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)
        x = _flat(input)
        count = x.size // x.shape[1]
        if training and ranks is not None:
            count, mean, variance = _statistics_of_all(x, ranks)
            _check_count(count, input)
            y = kernels.batch_norm_eval(x, weight, bias, mean, variance, eps)
            _update(running_mean, running_var, mean, variance, momentum, count)
        elif training:
            _check_count(count, input)
            if not x.size:
                mean = variance = np.zeros(input.shape[1], input.dtype)
                y = np.empty_like(x)
            else:
                y, mean, variance = kernels.batch_norm_train(x, weight, bias, eps)
                _update(running_mean, running_var, mean, variance, momentum, count)
        else:
            mean, variance = running_mean.copy(), running_var.copy()  # they may move on before backward
            y = kernels.batch_norm_eval(x, weight, bias, mean, variance, eps)
        ctx.save(input=input, weight=weight, mean=mean, variance=variance, training=training, eps=eps, ranks=ranks,
                 count=count)  # fmt: skip
        return y.reshape(input.shape)

    @staticmethod
    def backward(ctx, grad):
        gradient: Callable[..., Any] = kernels.batch_norm_eval_backward
        if ctx.training:
            over_ranks = partial(_gradients_over_ranks, ctx.ranks, ctx.count)
            gradient = kernels.batch_norm_train_backward if ctx.ranks is None else over_ranks
        grad_input, grad_weight, grad_bias = gradient(
            _flat(grad), _flat(ctx.input), ctx.weight, ctx.mean, ctx.variance, ctx.eps
        )
        _, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            grad_input.reshape(grad.shape),
            grad_weight if needs_weight else None,
            grad_bias if needs_bias else None,
        )


class GroupNorm(Operation):
    """Normalises each of ``num_groups`` groups of channels of each image, then · weight + bias per channel.

    It is batch normalization of one image with N·num_groups channels; compiled, it is computed without bringing
    the channels of a group together in memory first.
    """

    name = "group_norm"

    @staticmethod
    def forward(ctx, input, weight=None, bias=None, *, num_groups, eps):
        _check_group_norm(input, weight, bias, num_groups, eps)
        if input.size and runs_compiled("batch_norm_train"):
            y, mean, variance = group_norm(input, weight, bias, num_groups, eps)
        else:
            normalised, mean, variance = kernels.batch_norm_train(_grouped(input, num_groups), None, None, eps)
            mean, variance = (statistic.reshape(-1, num_groups) for statistic in (mean, variance))
            y = normalised.reshape(input.shape)
            if weight is not None:
                y = y * _per_channel(weight, y)
            if bias is not None:
                y = y + _per_channel(bias, y)
        ctx.save(input=input, weight=weight, mean=mean, variance=variance, num_groups=num_groups, eps=eps)
        return y

    @staticmethod
    def backward(ctx, grad):
        if grad.size and runs_compiled("batch_norm_train_backward", "batch_norm_eval", "channel_sum"):
            gradients = group_norm_backward(grad, ctx.input, ctx.weight, ctx.mean, ctx.variance, ctx.eps)
            return tuple([g if needed else None for g, needed in zip(gradients, (True, *ctx.needs_input_grad[1:]))])
        x, statistics = _grouped(ctx.input, ctx.num_groups), (ctx.mean.reshape(-1), ctx.variance.reshape(-1))
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            normalised = kernels.batch_norm_eval(x, None, None, *statistics, ctx.eps)
            grad_weight = kernels.channel_sum(grad * normalised.reshape(grad.shape))
        if ctx.needs_input_grad[2]:
            grad_bias = kernels.channel_sum(grad)
        if ctx.weight is not None:
            grad = grad * _per_channel(ctx.weight, grad)
        grad_x = kernels.batch_norm_train_backward(_grouped(grad, ctx.num_groups), x, None, *statistics, ctx.eps)[0]
        return grad_x.reshape(grad.shape), grad_weight, grad_bias


def _flat(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) as (N, C, L)."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, ...) as (1, N·groups, C/groups·L)."""
    return x.reshape(1, x.shape[0] * groups, math.prod(x.shape[1:]) // groups)


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _statistics_of_all(x, ranks) -> tuple[int, np.ndarray, np.ndarray]:
    """How many numbers a channel has on all ranks together, their mean and variance."""
    channels = x.shape[1]
    gathered = ranks.gather(np.concatenate([[x.size // channels], *local_moments(x)]))
    counts, means, variances = gathered[:, :1], gathered[:, 1 : channels + 1], gathered[:, channels + 1 :]
    with np.errstate(invalid="ignore"):
        mean, variance = moments_of_all(counts, means, variances)
    return int(counts.sum()), mean.astype(x.dtype), variance.astype(x.dtype)


def _gradients_over_ranks(ranks, count, grad, x, weight, mean, variance, eps):
    """The gradient of x through the statistics of all ranks; those of weight and bias are this rank's part."""
    inverse = 1 / np.sqrt(variance.astype(np.float64) + eps)
    sums = local_gradient_sums(grad, x, mean, inverse)
    means = ranks.gather(sums).sum(0) / count  # in the order of the ranks: the same bits everywhere
    grad_x = input_gradient_of_all(grad, x, mean, inverse, weight, means)
    return grad_x, *sums.astype(x.dtype)


def _update(running_mean, running_var, mean, variance, momentum, count) -> None:
    if running_mean is None:
        return
    for running, batch in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
        running *= 1 - momentum
        running += momentum * batch


def _check_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps) -> None:
    _check_channels("batch_norm", input, weight, bias, eps)
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var must both be given, or neither")
    for argument, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        checks.vector("batch_norm", argument, statistic, input.shape[1])
        if statistic is not None and statistic.dtype != input.dtype:
            raise DtypeError(f"batch_norm: the input is {input.dtype} but {argument} is {statistic.dtype}")
    if not training and running_mean is None:
        raise ValueError("batch_norm: outside of training, running_mean and running_var are needed")
    if training and running_mean is not None:
        checks.number("batch_norm", "momentum", momentum)
    if training and not eps > 0:
        raise ValueError(f"batch_norm: eps must be positive in training, got {eps}")


def _check_count(count, input) -> None:
    if count == 1:
        raise ShapeError(
            "batch_norm: expected more than 1 value per channel when training, got an input of shape "
            f"{input.shape} (a variance needs at least two)"
        )


def _check_group_norm(input, weight, bias, num_groups, eps) -> None:
    num_groups = checks.integer("group_norm", "num_groups", num_groups, minimum=1)
    _check_channels("group_norm", input, weight, bias, eps)
    checks.divides("group_norm", num_groups, "the input's channels", input.shape[1])
    if input.size == num_groups:
        raise ShapeError(
            f"group_norm: expected more than 1 value per group, got an input of shape {input.shape} "
            f"and num_groups={num_groups} (a variance needs at least two)"
        )


def _check_channels(name, input, weight, bias, eps) -> None:
    checks.floating(name, input=input, weight=weight, bias=bias)
    if input.ndim < 2 or 0 in input.shape[1:]:
        raise ShapeError(
            f"{name}: the input must be (N, C, ...) and only the batch may be empty, got shape {input.shape}"
        )
    checks.vector(name, "weight", weight, input.shape[1])
    checks.vector(name, "bias", bias, input.shape[1])
    checks.number(name, "eps", eps, low=0)
