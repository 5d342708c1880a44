"""Sample inputs for every differentiable operation: odd sizes, strides that leave a rest, groups, broadcasting.

Each case is a function of tensors and its inputs. Values lie in ±[0.3, 1.7], away from the kinks at 0, and no
two of a tensor are equal, so there are no ties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinynet.ops import (
    activation,
    arithmetic,
    convolution,
    focal_loss,
    linear,
    loss,
    normalization,
    pooling,
    reduction,
    roi_align,
    shape,
    upsampling,
)
from tinynet.tape import Operation
from tinynet.tensor import Tensor, apply, as_tensor


@dataclass(frozen=True)
class Case:
    """One function of tensors (or None where one is missing), to be checked at ``inputs``."""

    function: Callable
    inputs: tuple


class Sampler:
    """Draws the inputs of the cases, the same ones every time."""

    def __init__(self):
        self._generator = np.random.default_rng(1)

    def leaf(self, *sizes: int) -> Tensor:
        """A float64 tensor that is to be differentiated."""
        return self.constant(*sizes).requires_grad_()

    def leaf_or_middle(self, *sizes: int) -> Tensor:
        """A leaf; a single number lies between the positive and the negative ones, so that each wins somewhere."""
        return self.leaf(*sizes) if sizes else as_tensor(np.asarray(0.1)).requires_grad_()

    def positive(self, *sizes: int) -> Tensor:
        """The same with values in [0.3, 1.7]."""
        return as_tensor(self._generator.uniform(0.3, 1.7, sizes)).requires_grad_()

    def constant(self, *sizes: int) -> Tensor:
        """The same without a gradient."""
        return as_tensor(self._generator.uniform(0.3, 1.7, sizes) * self._generator.choice([-1.0, 1.0], sizes))

    def far(self, *sizes: int) -> Tensor:
        """Distinct values 0.1 or more apart, for maxima and for windows that pick one."""
        count = int(np.prod(sizes))
        values = self._generator.permutation(count) * 0.1 - count * 0.05
        return as_tensor(values.reshape(sizes)).requires_grad_()

    def labels(self, classes: int, *sizes: int) -> Tensor:
        """Class labels."""
        return as_tensor(self._generator.integers(0, classes, sizes))


def case(operation: type[Operation], *inputs, **settings) -> Case:
    """An operation applied to its inputs as they are."""
    return Case(lambda *tensors: apply(operation, *tensors, **settings), inputs)


def transposed(operation: type[Operation], *inputs, **settings) -> Case:
    """The same, its first input and its upstream gradient not contiguous: (…, H, W) seen as (…, W, H)."""

    def function(first, *others):
        return apply(operation, first.transpose(-1, -2), *others, **settings).transpose(-1, -2)

    return Case(function, inputs)


def stretched(operation: type[Operation], *inputs, **settings) -> Case:
    """The same over a first input repeated without copying, and with an upstream gradient that is repeated."""

    def function(first, *others):
        out = apply(operation, first.expand(2, *first.shape[1:]), *others, **settings)
        return out.sum(tuple(range(1, out.dim())))

    return Case(function, inputs)


def operation_cases() -> dict[type[Operation], list[Case]]:
    """The cases of every differentiable operation of tinynet.ops."""
    draw = Sampler()
    return {
        **_arithmetic(draw), **_reduction(draw), **_shape(draw), **_linear(draw), **_activation(draw),
        **_convolution(draw), **_normalization(draw), **_pooling(draw), **_upsampling(draw), **_loss(draw),
        **_detection(draw),
    }


def _arithmetic(draw: Sampler) -> dict[type[Operation], list[Case]]:
    def pairs(operation, first=draw.leaf, second=draw.leaf):
        return [
            case(operation, first(3, 4), second(3, 4)),
            case(operation, first(2, 1, 4), second(3, 1)),
            case(operation, first(), second(2, 3)),
            case(operation, first(3, 2), second()),
            transposed(operation, first(3, 4), second(4, 1)),
            stretched(operation, first(1, 3), second(2, 3)),
        ]

    def single(operation, sample=draw.leaf, **settings):
        return [
            case(operation, sample(3, 5), **settings),
            case(operation, sample(), **settings),
            transposed(operation, sample(2, 3, 4), **settings),
            stretched(operation, sample(1, 3), **settings),
        ]

    ops = arithmetic
    condition = as_tensor([[True, False, True, False], [False, True, True, False]])
    twice_cubed = case(ops.Power, draw.leaf(2, 3), as_tensor(np.array([2.0, 3.0, -1.0])))
    return {
        ops.Add: pairs(ops.Add),
        ops.Subtract: pairs(ops.Subtract),
        ops.Multiply: pairs(ops.Multiply),
        ops.Divide: pairs(ops.Divide),
        ops.Power: [*pairs(ops.Power, draw.positive), twice_cubed],
        ops.Maximum: pairs(ops.Maximum, draw.leaf_or_middle, draw.leaf_or_middle),
        ops.Minimum: pairs(ops.Minimum, draw.leaf_or_middle, draw.leaf_or_middle),
        ops.Negative: single(ops.Negative),
        ops.Absolute: single(ops.Absolute),
        ops.Exp: single(ops.Exp),
        ops.Log: single(ops.Log, draw.positive),
        ops.Sqrt: single(ops.Sqrt, draw.positive),
        ops.Sin: single(ops.Sin),
        ops.Cos: single(ops.Cos),
        ops.Cast: single(ops.Cast, dtype=np.dtype(np.float64)),
        ops.Clone: single(ops.Clone),
        ops.Clamp: [
            case(ops.Clamp, draw.leaf(5, 5), min=-1.0, max=0.5),
            case(ops.Clamp, draw.leaf(3, 4), min=0.1),
            transposed(ops.Clamp, draw.leaf(3, 4), max=0.1),
        ],
        ops.Where: [
            case(ops.Where, condition, draw.leaf(2, 4), draw.leaf(2, 4)),
            case(ops.Where, condition, draw.leaf(4), draw.leaf(2, 1)),
            case(ops.Where, condition, draw.leaf(3, 1, 1), draw.leaf()),
        ],
    }


def _reduction(draw: Sampler) -> dict[type[Operation], list[Case]]:
    def over(operation, sample=draw.leaf, **settings):
        return [
            case(operation, sample(3, 4), **settings),
            case(operation, sample(2, 3, 4), dim=1, **settings),
            case(operation, sample(2, 3, 4), dim=(0, -1), keepdim=True, **settings),
            Case(lambda x: apply(operation, x.transpose(0, 1), dim=1, **settings), (sample(3, 4),)),
            Case(lambda x: apply(operation, x.expand(3, 4), dim=1, **settings), (sample(1, 4),)),
        ]

    ops = reduction
    return {
        ops.Sum: over(ops.Sum),
        ops.Mean: over(ops.Mean),
        ops.Variance: [*over(ops.Variance), *over(ops.Variance, correction=0)],
        ops.Norm: over(ops.Norm),
        ops.Extreme: [
            part for largest in (True, False) for part in over(ops.Extreme, draw.far, largest=largest)
        ],
        ops.CumulativeSum: [
            case(ops.CumulativeSum, draw.leaf(5), dim=0),
            case(ops.CumulativeSum, draw.leaf(2, 3, 4), dim=1),
            transposed(ops.CumulativeSum, draw.leaf(3, 4), dim=-1),
        ],
    }


def _shape(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = shape
    twice, mask = as_tensor([2, 0, 2]), as_tensor([True, False, True])

    def picked(key, *sizes):
        return Case(lambda x: x[key], (draw.leaf(*sizes),))

    def assigned(key):
        def function(x, value):
            changed = x * 1
            changed[key] = value
            return changed

        return function

    return {
        ops.Reshape: [
            case(ops.Reshape, draw.leaf(3, 4), shape=(2, 6)),
            Case(lambda x: apply(ops.Reshape, x.transpose(0, 1), shape=(12,)), (draw.leaf(3, 4),)),
            case(ops.Reshape, draw.leaf(1), shape=()),
        ],
        ops.Permute: [
            case(ops.Permute, draw.leaf(2, 3, 4), dims=(2, 0, 1)),
            case(ops.Permute, draw.leaf(3, 4), dims=(-1, 0)),
        ],
        ops.Expand: [
            case(ops.Expand, draw.leaf(3, 1), shape=(2, 3, 4)),
            case(ops.Expand, draw.leaf(), shape=(2, 2)),
            case(ops.Expand, draw.leaf(2, 3), shape=(-1, 3)),
        ],
        ops.Flip: [case(ops.Flip, draw.leaf(3, 4), dims=(1,)), case(ops.Flip, draw.leaf(2, 3, 2), dims=(0, -1))],
        ops.Index: [
            picked((slice(1, None, 2), 2), 5, 4),
            picked((..., None, slice(1, 3)), 3, 4),
        ],
        ops.Pick: [
            picked(twice, 3, 4),
            picked((twice, [1, 1, 1]), 3, 4),
            picked(mask, 3, 4),
            picked((0, twice, slice(None, None, 3)), 2, 3, 4),
        ],
        ops.SetIndex: [
            Case(assigned((slice(None), slice(1, None, 2))), (draw.leaf(3, 4), draw.leaf(3, 2))),
            Case(assigned(1), (draw.leaf(3, 4), draw.leaf())),
            Case(assigned(mask), (draw.leaf(3, 4), draw.leaf(4))),
            Case(assigned(as_tensor([2, 0])), (draw.leaf(3, 4), draw.leaf(2, 4))),
        ],
        ops.Gather: [
            case(ops.Gather, draw.leaf(3, 4), as_tensor([[0, 0, 3], [1, 2, 1]]), dim=1),
            case(ops.Gather, draw.leaf(3, 4), as_tensor([[2, 2, 0, 1]]), dim=0),
        ],
        ops.Concatenate: [
            case(ops.Concatenate, draw.leaf(2, 3), draw.leaf(2, 1), draw.leaf(2, 2), dim=1),
            case(ops.Concatenate, draw.leaf(1, 2, 2), draw.leaf(3, 2, 2), dim=-3),
            transposed(ops.Concatenate, draw.leaf(2, 3), draw.leaf(1, 2), dim=0),
        ],
        ops.Pad: [
            case(ops.Pad, draw.leaf(2, 3), pad=(1, 2)),
            case(ops.Pad, draw.leaf(2, 3, 4), pad=(1, 0, 0, 2), value=3.0),
            case(ops.Pad, draw.leaf(4, 5), pad=(-1, 2, 1, -2)),
        ],
    }


def _linear(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = linear
    shapes = (
        ((3, 4), (4, 2)), ((4,), (4,)), ((4,), (4, 3)), ((3, 4), (4,)), ((2, 3, 4), (4, 2)),
        ((2, 3, 4), (2, 4, 3)), ((2, 1, 3, 4), (3, 4, 2)), ((1, 3, 2), (4, 2, 2)), ((2, 3, 4), (4,)),
    )  # fmt: skip
    return {
        ops.MatMul: [
            *[case(ops.MatMul, draw.leaf(*a), draw.leaf(*b)) for a, b in shapes],
            transposed(ops.MatMul, draw.leaf(4, 3), draw.leaf(4, 2)),
            stretched(ops.MatMul, draw.leaf(1, 3, 4), draw.leaf(4, 2)),
        ],
        ops.Linear: [
            case(ops.Linear, draw.leaf(3, 4), draw.leaf(2, 4), draw.leaf(2)),
            case(ops.Linear, draw.leaf(4), draw.leaf(3, 4), None),
            case(ops.Linear, draw.leaf(2, 3, 4), draw.leaf(5, 4), draw.leaf(5)),
            transposed(ops.Linear, draw.leaf(4, 3), draw.leaf(2, 4), draw.leaf(2)),
            stretched(ops.Linear, draw.leaf(1, 3), draw.leaf(2, 3), None),
        ],
    }


def _activation(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = activation

    def single(operation, **settings):
        return [
            case(operation, draw.leaf(3, 5), **settings),
            case(operation, draw.leaf(2, 3, 2, 3), **settings),
            transposed(operation, draw.leaf(3, 4), **settings),
        ]

    def along(operation):
        return [
            case(operation, draw.leaf(3, 5), dim=1),
            case(operation, draw.leaf(2, 4, 3), dim=1),
            case(operation, draw.leaf(4), dim=-1),
            transposed(operation, draw.leaf(3, 4), dim=0),
        ]

    return {
        ops.ReLU: single(ops.ReLU),
        ops.Hardtanh: [*single(ops.Hardtanh), *single(ops.Hardtanh, min_val=0.0, max_val=1.1)],
        ops.Sigmoid: single(ops.Sigmoid),
        ops.Tanh: single(ops.Tanh),
        ops.Softmax: along(ops.Softmax),
        ops.LogSoftmax: along(ops.LogSoftmax),
        ops.Dropout: [case(ops.Dropout, draw.leaf(2, 3), mask=np.array([[0, 2.0, 2.0], [2.0, 0, 2.0]]))],
    }


CONVOLUTIONS: tuple[tuple[tuple, tuple, bool, dict], ...] = (  # input, weight, bias, settings
    ((2, 2, 5, 4), (3, 2, 3, 3), True, {}),
    ((1, 2, 6, 7), (2, 2, 3, 3), True, dict(stride=2, padding=1)),
    ((2, 1, 7, 6), (2, 1, 3, 2), False, dict(stride=(3, 2), padding=(2, 0))),  # a rest of rows and columns
    ((1, 2, 7, 7), (1, 2, 2, 3), True, dict(dilation=(2, 3), padding=(1, 2))),
    ((2, 4, 4, 5), (6, 2, 3, 3), True, dict(groups=2, padding=1)),
    ((1, 3, 5, 5), (3, 1, 3, 3), False, dict(groups=3, padding=1, stride=2)),  # depthwise
    ((2, 3, 3, 4), (4, 3, 1, 1), True, {}),
    ((1, 2, 5, 5), (2, 2, 1, 1), False, dict(stride=2)),
    ((1, 2, 3, 4), (3, 2, 3, 4), True, {}),  # one window
)
TRANSPOSED: tuple[tuple[tuple, tuple, bool, dict], ...] = (
    ((2, 2, 3, 3), (2, 3, 3, 3), True, {}),
    ((1, 2, 3, 4), (2, 2, 3, 3), True, dict(stride=2, padding=1)),
    ((1, 1, 3, 2), (1, 2, 2, 3), False, dict(stride=(2, 3), padding=(0, 1), output_padding=(1, 2))),
    ((1, 4, 2, 3), (4, 1, 3, 3), True, dict(groups=2, stride=2, output_padding=1)),
    ((1, 2, 3, 3), (2, 1, 2, 2), False, dict(dilation=2)),
)


def _convolution(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = convolution

    def sampled(operation, table):
        found = []
        for x, weight, bias, settings in table:
            channels = weight[0] if operation is ops.Convolution else weight[1] * settings.get("groups", 1)
            parts = (draw.leaf(*x), draw.leaf(*weight), draw.leaf(channels) if bias else None)
            found.append(case(operation, *parts, **settings))
        return [
            *found,
            transposed(operation, draw.leaf(1, 2, 4, 5), draw.leaf(2, 2, 3, 3), None),
            stretched(operation, draw.leaf(1, 2, 4, 4), draw.leaf(2, 2, 3, 3), draw.leaf(2), stride=2, padding=1),
        ]

    return {
        ops.Convolution: sampled(ops.Convolution, CONVOLUTIONS),
        ops.TransposedConvolution: sampled(ops.TransposedConvolution, TRANSPOSED),
        ops.Unfold: [
            case(ops.Unfold, draw.leaf(2, 2, 5, 4), kernel_size=(3, 2)),
            case(ops.Unfold, draw.leaf(1, 2, 6, 7), kernel_size=2, dilation=2, padding=(1, 2), stride=(2, 3)),
        ],
        ops.Fold: [
            case(ops.Fold, draw.leaf(1, 12, 6), output_size=(4, 3), kernel_size=(2, 2)),
            case(ops.Fold, draw.leaf(2, 8, 9), output_size=(5, 5), kernel_size=2, padding=1, stride=2),
        ],
    }


def _normalization(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = normalization

    def batch(training, *sizes, affine=True, statistics=True):
        channels = sizes[1]
        running = [np.linspace(-0.5, 0.5, channels), np.linspace(0.5, 2.0, channels)] if statistics else [None, None]
        parts = (draw.leaf(*sizes), draw.leaf(channels) if affine else None, draw.leaf(channels) if affine else None)
        settings = dict(running_mean=running[0], running_var=running[1], training=training, momentum=0.1, eps=1e-5)
        return parts, settings

    def batch_cases():
        for training in (True, False):
            for sizes, affine in (((3, 2, 3, 2), True), ((4, 3), True), ((2, 3, 5), False)):
                parts, settings = batch(training, *sizes, affine=affine)
                yield case(ops.BatchNorm, *parts, **settings)
            parts, settings = batch(training, 3, 2, 3, 4)
            yield transposed(ops.BatchNorm, *parts, **settings)
        parts, settings = batch(True, 2, 2, 3, 3, statistics=False)
        yield case(ops.BatchNorm, *parts, **settings)

    def group(groups, *sizes, affine=True):
        parts = (draw.leaf(*sizes), *[draw.leaf(sizes[1]) if affine else None for _ in range(2)])
        return case(ops.GroupNorm, *parts, num_groups=groups, eps=1e-5)

    return {
        ops.BatchNorm: list(batch_cases()),
        ops.GroupNorm: [
            group(2, 2, 4, 3, 2), group(1, 3, 2, 4), group(3, 2, 3, 2, 3, affine=False),
            transposed(ops.GroupNorm, draw.leaf(2, 4, 2, 3), draw.leaf(4), draw.leaf(4), num_groups=2, eps=1e-5),
        ],
    }


def _pooling(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = pooling
    settings = (
        dict(kernel_size=2), dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=(3, 2), stride=(1, 3)),
        dict(kernel_size=3, stride=2, ceil_mode=True),
    )  # fmt: skip
    return {
        ops.MaxPool: [
            *[case(ops.MaxPool, draw.far(2, 2, 6, 7), **each) for each in settings],
            case(ops.MaxPool, draw.far(1, 2, 7, 6), kernel_size=2, stride=1, dilation=(2, 3)),
            Case(lambda x: apply(ops.MaxPool, x.transpose(2, 3), kernel_size=2)[0], (draw.far(1, 2, 4, 5),)),
        ],
        ops.AveragePool: [
            *[case(ops.AveragePool, draw.leaf(2, 2, 6, 5), **each) for each in settings],
            case(ops.AveragePool, draw.leaf(1, 2, 5, 5), kernel_size=3, stride=2, padding=1, count_include_pad=False),
            case(ops.AveragePool, draw.leaf(1, 2, 4, 4), kernel_size=2, divisor_override=3),
            transposed(ops.AveragePool, draw.leaf(1, 2, 4, 5), kernel_size=2, stride=1),
            stretched(ops.AveragePool, draw.leaf(1, 2, 3, 3), kernel_size=2, stride=1),
        ],
        ops.AdaptiveAveragePool: [
            case(ops.AdaptiveAveragePool, draw.leaf(2, 2, 5, 7), output_size=size)
            for size in (1, (2, 3), (7, 4), (5, 7))
        ],
    }


def _upsampling(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = upsampling
    return {
        ops.Nearest: [
            *[
                case(ops.Nearest, draw.leaf(2, 2, 3, 4), size=size, exact=exact)
                for size in ((6, 8), (5, 7), (2, 3), (3, 4)) for exact in (False, True)
            ],
            case(ops.Nearest, draw.leaf(1, 2, 3, 4), size=(5, 7), scale=(1.7, 1.8)),
            transposed(ops.Nearest, draw.leaf(1, 2, 3, 4), size=(8, 6)),
        ],
        ops.Bilinear: [
            *[
                case(ops.Bilinear, draw.leaf(2, 2, 3, 4), size=size, align_corners=align)
                for size in ((6, 8), (5, 7), (2, 3), (1, 1)) for align in (False, True)
            ],
            case(ops.Bilinear, draw.leaf(1, 2, 3, 4), size=(5, 7), scale=(1.7, 1.8)),
            stretched(ops.Bilinear, draw.leaf(1, 2, 3, 3), size=(5, 4)),
        ],
    }


def _loss(draw: Sampler) -> dict[type[Operation], list[Case]]:
    ops = loss
    reductions = ("mean", "sum", "none")
    ignored = as_tensor([2, -100, 0, 1])
    weight = as_tensor(np.array([0.5, 1.0, 2.0]))

    def classified(operation):
        return [
            *[case(operation, draw.leaf(4, 3), draw.labels(3, 4), None, reduction=each) for each in reductions],
            case(operation, draw.leaf(4, 3), ignored, weight),
            case(operation, draw.leaf(2, 3, 2, 2), draw.labels(3, 2, 2, 2), weight, reduction="sum"),
        ]

    def paired(operation, *missing, target=draw.leaf, **settings):
        return [
            *[case(operation, draw.leaf(3, 4), target(3, 4), *missing, reduction=r, **settings) for r in reductions],
            transposed(operation, draw.leaf(3, 4), target(4, 3), *missing, reduction="none", **settings),
        ]

    def soft(*inputs, **settings):
        return case(ops.SoftCrossEntropy, *inputs, **settings)

    positive = as_tensor(np.array([0.5, 3.0, 1.0]))
    binary = ops.BinaryCrossEntropyWithLogits
    return {
        ops.NegativeLogLikelihood: classified(ops.NegativeLogLikelihood),
        ops.CrossEntropy: [
            *classified(ops.CrossEntropy),
            case(ops.CrossEntropy, draw.leaf(4, 3), ignored, weight, label_smoothing=0.1),
            case(ops.CrossEntropy, draw.leaf(4, 3), ignored, None, label_smoothing=0.3, reduction="none"),
        ],
        ops.SoftCrossEntropy: [
            *[soft(draw.leaf(4, 3), draw.positive(4, 3), None, reduction=each) for each in reductions],
            soft(draw.leaf(2, 3, 2), draw.positive(2, 3, 2), weight, label_smoothing=0.1),
        ],
        binary: [
            *paired(binary, None, None, target=draw.positive),
            case(binary, draw.leaf(4, 3), draw.positive(4, 3), None, positive),
            case(binary, draw.leaf(4, 3), draw.positive(4, 3), draw.constant(4, 3), positive, reduction="sum"),
        ],
        ops.MeanSquaredError: paired(ops.MeanSquaredError),
        ops.L1: paired(ops.L1),
        ops.SmoothL1: [*paired(ops.SmoothL1), *paired(ops.SmoothL1, beta=0.25)],
    }


def _detection(draw: Sampler) -> dict[type[Operation], list[Case]]:
    focal, align = focal_loss.SigmoidFocalLoss, roi_align.RoIAlign
    targets = as_tensor(np.array([[1.0, 0.0, 0.3], [0.0, 1.0, 1.0]]))
    regions = as_tensor(np.array([[0, 0.4, 0.7, 3.2, 4.1], [1, -1.0, 1.3, 5.6, 2.9], [1, 2.0, 2.0, 2.0, 2.0]]))

    def aligned(*sizes, **settings):
        return case(align, draw.leaf(2, *sizes), regions, output_size=(2, 3), **settings)

    return {
        focal: [
            *[case(focal, draw.leaf(2, 3), targets, reduction=each) for each in ("mean", "sum", "none")],
            case(focal, draw.leaf(2, 3), targets, alpha=-1, gamma=1.5),
            case(focal, draw.leaf(2, 3), targets, gamma=0.0),
        ],
        align: [
            aligned(2, 5, 6),
            aligned(3, 4, 5, aligned=True),
            aligned(1, 5, 4, sampling_ratio=2, spatial_scale=0.5),
            aligned(1, 5, 4, sampling_ratio=3, aligned=True),
        ],
    }
