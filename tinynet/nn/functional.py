"""``torch.nn.functional``: the same names, argument order, defaults and meaning.

Each is a thin call of an operation in ``tinynet/ops/``, where its forward, backward and checks stand. Images
are (N, C, H, W); where torch also takes an unbatched (C, H, W), so does this. What torch can do and tinynet
cannot raises NotImplementedError with the option's name.
"""

from __future__ import annotations

import numpy as np

from .. import random
from ..errors import DtypeError
from ..ops import activation, checks, convolution, loss, normalization, pooling, upsampling
from ..ops import linear as linear_ops
from ..ops.shape import Pad
from ..tensor import Tensor, apply, apply_inplace

Pair = int | tuple[int, int]


def _refuse(name: str, **options) -> None:
    """Raises NotImplementedError for the first option that was given."""
    for option, value in options.items():
        if value is not None:
            raise NotImplementedError(f"{name}: the option {option} is not supported, got {option}={value!r}")


def _require_tensor(name: str, argument: str, value) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {argument} must be a Tensor, got {type(value).__name__}; see tinynet.as_tensor")
    return value


def _apply(operation, *inputs: Tensor | None, **settings):
    """``apply`` of Tensors only; an input may be None if the operation's forward has a default for it."""
    forward = operation.forward
    arguments = forward.__code__.co_varnames[1 : forward.__code__.co_argcount]
    required = len(arguments) - len(forward.__defaults__ or ())
    for position, (argument, value) in enumerate(zip(arguments, inputs)):
        if value is not None or position < required:
            _require_tensor(operation.name, argument, value)
    return apply(operation, *inputs, **settings)


def _unbatched(operation, input: Tensor, *others: Tensor | None, dimensions: int = 3, **settings):
    """Applies an operation over batches; an input of ``dimensions`` axes goes through as a batch of one."""
    if _require_tensor(operation.name, "input", input).dim() != dimensions:
        return _apply(operation, input, *others, **settings)
    outputs = _apply(operation, input.unsqueeze(0), *others, **settings)
    if isinstance(outputs, tuple):
        return tuple([output.squeeze(0) for output in outputs])
    return outputs.squeeze(0)


# --- convolution and linear ------------------------------------------------------------------------------


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Slides ``weight`` (C_out, C/groups, kh, kw) over ``input``: (N, C, H, W) to (N, C_out, OH, OW) with
    OH = floor((H + 2·padding - dilation·(kh - 1) - 1) / stride) + 1. ``padding`` may be "valid" (none) or
    "same" (OH = H, stride 1 only; an even kernel pads one more at the bottom and right).

    Raises ShapeError where shapes or settings do not fit, DtypeError unless all are float32 or all float64.
    """
    if isinstance(padding, str):
        input, padding = _pad_by_name(input, weight, stride, padding, dilation)
    return _unbatched(
        convolution.Convolution, input, weight, bias,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip


def _pad_by_name(input: Tensor, weight: Tensor, stride, padding: str, dilation):
    if padding == "valid":
        return input, 0
    if padding != "same":
        raise ValueError(f"conv2d: padding must be an integer, a pair, 'same' or 'valid', got {padding!r}")
    kernel_size = _require_tensor("conv2d", "weight", weight).shape[-2:]
    around, (bottom, right) = convolution.same_padding(kernel_size, stride, dilation)
    return (pad(input, (0, right, 0, bottom)) if bottom or right else input), around


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor:
    """The transpose of :func:`conv2d`: (N, C, H, W) with weight (C, C_out/groups, kh, kw) to
    (N, C_out, OH, OW), OH = (H - 1)·stride - 2·padding + dilation·(kh - 1) + output_padding + 1.

    Raises as :func:`conv2d`, and where output_padding is not below stride or dilation.
    """
    return _unbatched(
        convolution.TransposedConvolution, input, weight, bias,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation,
    )  # fmt: skip


def unfold(
    input: Tensor, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1
) -> Tensor:
    """The windows of :func:`conv2d` as columns (im2col): (N, C, H, W) to (N, C·kh·kw, OH·OW)."""
    return _unbatched(
        convolution.Unfold, input, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride
    )


def fold(
    input: Tensor,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Tensor:
    """The transpose of :func:`unfold` (col2im): adds columns (N, C·kh·kw, windows) up into (N, C, H, W)."""
    return _unbatched(
        convolution.Fold, input, dimensions=2, output_size=output_size,
        kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride,
    )  # fmt: skip


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input · weightᵀ + bias: (..., in) with weight (out, in) to (..., out)."""
    for argument, value in (("input", input), ("weight", weight), ("bias", input if bias is None else bias)):
        _require_tensor("linear", argument, value)
    return apply(linear_ops.Linear, input, weight, bias)


def pad(input: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Tensor:
    """Surrounds ``input`` with ``value`` (0): ``pad`` holds (before, after) pairs, the last axis first."""
    if mode != "constant":
        raise NotImplementedError(f"pad: only mode='constant' is supported, got mode={mode!r}")
    return _apply(Pad, input, pad=tuple(pad), value=0.0 if value is None else value)


# --- activation ------------------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); the gradient at 0 is 0, NaN stays NaN."""
    return _require_tensor("relu", "input", input).relu_() if inplace else _apply(activation.ReLU, input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` limited to [min_val, max_val]; the gradient on the bounds is 0."""
    settings = {"min_val": min_val, "max_val": max_val}
    if inplace:
        return apply_inplace(_require_tensor("hardtanh", "input", input), activation.Hardtanh, **settings)
    return _apply(activation.Hardtanh, input, **settings)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``input`` limited to [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-input))."""
    return _apply(activation.Sigmoid, input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return _apply(activation.Tanh, input)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype=None) -> Tensor:
    """exp(input) / Σ exp(input) along ``dim``, in ``dtype`` if given.

    Without ``dim`` torch guesses and warns; tinynet raises TypeError.
    """
    return _apply(activation.Softmax, _cast("softmax", input, dtype), dim=_axis("softmax", dim))


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype=None) -> Tensor:
    """log(softmax(input)) along ``dim``, computed without overflow; see :func:`softmax`."""
    return _apply(activation.LogSoftmax, _cast("log_softmax", input, dtype), dim=_axis("log_softmax", dim))


def _cast(name: str, input: Tensor, dtype) -> Tensor:
    return input if dtype is None else _require_tensor(name, "input", input).to(dtype)


def _axis(name: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{name}: name the axis of the classes, for example {name}(input, dim=1)")
    return dim


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, elements are 0 with probability ``p`` and else divided by 1 - p; otherwise ``input``."""
    x = _require_tensor("dropout", "input", input)._array
    activation.check_dropout(x, p)
    if not training:
        return input
    mask = activation.dropout_mask(random.default_generator.numpy, x, p)
    if inplace:
        return apply_inplace(input, activation.Dropout, mask=mask)
    return _apply(activation.Dropout, input, mask=mask)


# --- normalization ---------------------------------------------------------------------------------------


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(input - mean) / sqrt(variance + eps) · weight + bias per channel of (N, C, ...).

    In training the statistics are the batch's, and the running ones (changed in place, if given) become
    (1 - momentum)·running + momentum·batch, with the unbiased variance. Otherwise the running ones count.
    Raises ShapeError for one value per channel in training.
    """
    output = _apply(
        normalization.BatchNorm, input, weight, bias,
        running_mean=_statistic("running_mean", running_mean),
        running_var=_statistic("running_var", running_var),
        training=training, momentum=momentum, eps=eps,
    )  # fmt: skip
    if training and running_mean is not None and running_var is not None:
        running_mean._version_counter.bump()
        running_var._version_counter.bump()
    return output


def _statistic(argument: str, value: Tensor | None) -> np.ndarray | None:
    return None if value is None else _require_tensor("batch_norm", argument, value)._array


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises ``num_groups`` groups of channels of each image of (N, C, ...), then · weight + bias."""
    return _apply(normalization.GroupNorm, input, weight, bias, num_groups=num_groups, eps=eps)


# --- pooling and resizing --------------------------------------------------------------------------------


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The maximum of each window (``stride`` None: the kernel's size); padding counts as -inf.

    With ``return_indices`` also where it was: flat indices in H·W, int64.
    """
    return _unbatched(
        pooling.MaxPool, input, kernel_size=kernel_size, stride=stride, padding=padding,
        dilation=dilation, ceil_mode=ceil_mode, return_indices=bool(return_indices),
    )  # fmt: skip


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window; ``divisor_override`` divides by that number instead of the window's size."""
    return _unbatched(
        pooling.AveragePool, input, kernel_size=kernel_size, stride=stride, padding=padding,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


def adaptive_avg_pool2d(input: Tensor, output_size: Pair | tuple[int | None, int | None]) -> Tensor:
    """Means over windows that divide H x W into ``output_size``; None keeps an axis as it is."""
    return _unbatched(pooling.AdaptiveAveragePool, input, output_size=output_size)


def interpolate(
    input: Tensor,
    size: Pair | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes (N, C, H, W) to ``size`` or to floor(H · scale_factor) x floor(W · scale_factor).

    ``mode``: "nearest", "nearest-exact" or "bilinear" (with ``align_corners``). With a ``scale_factor`` the
    step through the input is 1 / scale_factor, or input / output if ``recompute_scale_factor``.
    """
    _refuse("interpolate", antialias=antialias or None)
    if mode not in ("nearest", "nearest-exact", "bilinear"):
        raise NotImplementedError(
            f"interpolate: mode must be 'nearest', 'nearest-exact' or 'bilinear', got {mode!r}"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give size or scale_factor, and not both")
    if size is not None and recompute_scale_factor:
        raise ValueError("interpolate: recompute_scale_factor has no meaning with an explicit size")
    if align_corners is not None and mode != "bilinear":
        raise ValueError(f"interpolate: align_corners belongs to mode='bilinear', not to mode={mode!r}")
    scale = None
    if scale_factor is not None:
        shape = tuple(_require_tensor("interpolate", "input", input).shape)
        size, scale = upsampling.resized(shape, scale_factor)
        scale = None if recompute_scale_factor else scale
    if mode == "bilinear":
        return _apply(upsampling.Bilinear, input, size=size, align_corners=bool(align_corners), scale=scale)
    return _apply(upsampling.Nearest, input, size=size, scale=scale, exact=mode == "nearest-exact")


# --- losses ----------------------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class labels (*) as rows of the identity, (*, num_classes) int64; -1 takes the largest label + 1.

    Raises LabelError for a label outside of the classes.
    """
    labels = _require_tensor("one_hot", "tensor", tensor)._array
    if labels.dtype != np.int64:
        raise DtypeError(f"one_hot: labels must be int64, got {labels.dtype}; use tensor.long()")
    if num_classes == -1:
        if not labels.size:
            raise ValueError("one_hot: an empty tensor does not tell the number of classes; give num_classes")
        num_classes = max(int(labels.max()) + 1, 1)
    num_classes = checks.integer("one_hot", "num_classes", num_classes, minimum=1)
    checks.labels("one_hot", labels, np.asarray(True), num_classes)
    return Tensor((labels[..., None] == np.arange(num_classes)).astype(np.int64))


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target] for scores (N, C, ...) or (C,), with one ``weight`` per class.

    ``target`` holds int64 labels, (N, ...), or, floating and of the input's shape, probabilities. "mean"
    divides by the labels' weights, without those that are ``ignore_index``; if all are, the loss is NaN and
    its gradient 0, as in torch.

    Raises LabelError for a label outside of 0..C-1, DtypeError for labels that are no integers.
    """
    _refuse("cross_entropy", size_average=size_average, reduce=reduce)
    settings = {"reduction": reduction, "label_smoothing": label_smoothing}
    for argument, value in (("input", input), ("target", target)):
        _require_tensor("cross_entropy", argument, value)
    if not (target.is_floating_point() and target.shape == input.shape):
        return _apply(loss.CrossEntropy, input, target, weight, ignore_index=ignore_index, **settings)
    if ignore_index >= 0:
        raise ValueError(f"cross_entropy: ignore_index={ignore_index} needs labels, the target is floating")
    return _apply(loss.SoftCrossEntropy, input, target, weight, **settings)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target] for log-probabilities (N, C, ...) or (C,); else as :func:`cross_entropy` of labels."""
    _refuse("nll_loss", size_average=size_average, reduce=reduce)
    return _apply(
        loss.NegativeLogLikelihood, input, target, weight, ignore_index=ignore_index, reduction=reduction
    )


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-weight · (pos_weight · t · log p + (1 - t) · log(1 - p)) with p = sigmoid(input), never overflowing.

    ``target`` has the input's shape and dtype; the weights broadcast to it.
    """
    _refuse("binary_cross_entropy_with_logits", size_average=size_average, reduce=reduce)
    return _apply(loss.BinaryCrossEntropyWithLogits, input, target, weight, pos_weight, reduction=reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)² for equal shapes; ShapeError else: (N, 1) against (N,) would compare all with all."""
    _refuse("mse_loss", size_average=size_average, reduce=reduce, weight=weight)
    return _apply(loss.MeanSquaredError, input, target, reduction=reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target| for equal shapes; the gradient is 0 where both are equal."""
    _refuse("l1_loss", size_average=size_average, reduce=reduce, weight=weight)
    return _apply(loss.L1, input, target, reduction=reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d² / (2·beta) where d = |input - target| < beta, else d - beta / 2, for equal shapes."""
    _refuse("smooth_l1_loss", size_average=size_average, reduce=reduce)
    return _apply(loss.SmoothL1, input, target, beta=beta, reduction=reduction)
