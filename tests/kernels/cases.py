"""Calls of every kernel with shapes that break things: odd, not dividing, rectangular, dilated, empty, grouped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tests.kernels.box_cases import box_calls
from tinynet.kernels import geometry

# (input, weight, stride, padding, dilation, groups)
CONVOLUTIONS = [
    ((2, 3, 7, 6), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((1, 2, 9, 8), (3, 2, 3, 2), (2, 3), (1, 0), (1, 2), 1),  # strides that do not divide
    ((2, 4, 8, 5), (6, 2, 5, 1), (1, 1), (2, 0), (1, 1), 2),
    ((2, 4, 6, 6), (4, 4, 1, 1), (1, 1), (0, 0), (1, 1), 1),  # pointwise
    ((1, 4, 7, 5), (6, 2, 1, 1), (1, 1), (0, 0), (1, 1), 2),  # pointwise, grouped
    ((2, 3, 7, 7), (5, 3, 1, 1), (2, 2), (0, 0), (1, 1), 1),  # a strided shortcut
    ((1, 2, 5, 5), (3, 2, 1, 1), (1, 1), (1, 2), (1, 1), 1),  # more padding than kernel
    ((2, 3, 6, 7), (3, 1, 3, 3), (1, 1), (1, 1), (1, 1), 3),  # depthwise
    ((1, 2, 8, 9), (6, 1, 3, 2), (2, 3), (2, 1), (2, 2), 2),  # depthwise with a multiplier
    ((2, 2, 5, 5), (3, 2, 5, 5), (1, 1), (0, 0), (1, 1), 1),  # the kernel covers all
    ((1, 1, 4, 4), (2, 1, 3, 3), (3, 3), (3, 3), (1, 1), 1),  # windows wholly in the padding
    ((2, 6, 5, 4), (6, 2, 3, 3), (2, 2), (1, 1), (1, 1), 3),
    ((0, 3, 5, 5), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((0, 4, 5, 5), (4, 1, 3, 3), (2, 2), (1, 1), (1, 1), 4),
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((3, 2, 1, 11), (2, 2, 1, 3), (1, 2), (0, 1), (1, 3), 1),
]

# (input, kernel, stride, padding, dilation, ceil_mode)
MAX_POOLS = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((1, 2, 7, 9), (3, 3), (2, 2), (1, 1), (1, 1), False),
    ((2, 2, 7, 6), (3, 2), (2, 3), (1, 0), (1, 2), True),
    ((1, 1, 5, 5), (2, 2), (3, 3), (1, 1), (1, 1), True),
    ((1, 2, 6, 7), (3, 3), (1, 1), (1, 1), (2, 2), False),
    ((1, 1, 1, 1), (2, 2), (1, 1), (1, 1), (2, 2), False),  # a window that holds padding only
    ((0, 2, 6, 6), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((2, 1, 4, 4), (4, 4), (4, 4), (2, 2), (1, 1), True),
]

# (input, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)
AVERAGE_POOLS = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), False, True, None),
    ((1, 2, 7, 9), (3, 2), (2, 3), (1, 1), False, True, None),
    ((1, 2, 7, 9), (3, 2), (2, 3), (1, 1), False, False, None),
    ((2, 2, 7, 6), (3, 3), (2, 2), (1, 1), True, True, None),
    ((2, 2, 7, 6), (3, 3), (2, 2), (1, 1), True, False, None),
    ((1, 1, 5, 5), (2, 2), (3, 3), (1, 1), True, True, 3),
    ((0, 2, 6, 6), (2, 2), (2, 2), (0, 0), False, True, None),
]

# (input, output size)
ADAPTIVE_POOLS = [((2, 3, 7, 7), (1, 1)), ((1, 2, 7, 5), (3, 4)), ((2, 1, 3, 4), (5, 7)), ((0, 2, 4, 4), (2, 2))]

# (input, output size, scale)
RESIZES = [
    ((2, 2, 4, 5), (8, 10), None),
    ((1, 2, 7, 6), (3, 11), None),
    ((1, 1, 5, 5), (5, 5), None),
    ((2, 1, 4, 3), (9, 7), (2.3, 2.5)),
    ((1, 1, 1, 1), (3, 4), None),
    ((1, 2, 3, 7), (1, 1), None),
    ((0, 2, 4, 4), (8, 8), (2.0, 2.0)),
]

CHANNEL_SHAPES = [(2, 3, 10), (1, 5, 1), (7, 17, 1), (3, 1, 33), (4, 20, 5), (1, 2, 2)]


class Case(NamedTuple):
    """One call: `kernel(*arguments(rng, dtype))`."""

    kernel: str
    name: str
    arguments: Callable[[np.random.Generator, type], tuple[Any, ...]]


def cases() -> Iterator[Case]:
    """Every kernel on every shape of its family."""
    for number, case in enumerate(CONVOLUTIONS):
        yield from _convolution_cases(number, *case)
    for number, case in enumerate(MAX_POOLS):
        yield from _max_pool_cases(number, *case)
    for number, case in enumerate(AVERAGE_POOLS):
        yield from _average_pool_cases(number, *case)
    for number, case in enumerate(ADAPTIVE_POOLS):
        yield from _adaptive_pool_cases(number, *case)
    for number, case in enumerate(RESIZES):
        yield from _resize_cases(number, *case)
    for number, shape in enumerate(CHANNEL_SHAPES):
        yield from _channel_cases(number, shape)
    for call in box_calls():
        yield Case(*call)
    for shape in [(3, 4, 5), (1, 1, 1), (7, 0, 2), (0, 3, 2), (2, 3, 0), (65, 33, 40)]:
        yield Case("matrix_product", str(shape), lambda r, d, s=shape: (_normal(r, d, s[:2]), _normal(r, d, s[1:])))


def _normal(rng: np.random.Generator, dtype: type, shape) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def _output(x, weight, stride, padding, dilation):
    return (x[0], weight[0], *geometry.convolution_output_size(x[2:], weight[2:], stride, padding, dilation))


def _convolution_cases(number, x, weight, stride, padding, dilation, groups):
    window = (stride, padding, dilation)
    y = _output(x, weight, *window)
    columns = (x[0], x[1] * weight[2] * weight[3], y[2] * y[3])
    name = f"{number}"
    yield Case("im2col", name, lambda r, d: (_normal(r, d, x), weight[2:], *window))
    yield Case("col2im", name, lambda r, d: (_normal(r, d, columns), x, weight[2:], *window))
    for bias in (False, True):
        yield Case(
            "convolution",
            f"{name}{' with bias' if bias else ''}",
            lambda r, d, bias=bias: (
                _normal(r, d, x),
                _normal(r, d, weight),
                _normal(r, d, weight[:1]) if bias else None,
                *window,
                groups,
            ),
        )
    yield Case(
        "convolution_input_gradient",
        name,
        lambda r, d: (_normal(r, d, y), _normal(r, d, weight), x, *window, groups),
    )
    yield Case(
        "convolution_weight_gradient",
        name,
        lambda r, d: (_normal(r, d, y), _normal(r, d, x), weight, *window, groups),
    )


def _max_pool_cases(number, x, kernel, stride, padding, dilation, ceil_mode):
    y = (*x[:2], *geometry.pooling_output_size(x[2:], kernel, stride, padding, dilation, ceil_mode))

    def values(rng, dtype):
        array = rng.integers(-3, 4, x).astype(dtype)  # many ties
        array[rng.random(x) < 0.1] = np.nan
        array[rng.random(x) < 0.2] = -np.inf
        return array, kernel, stride, padding, dilation, ceil_mode

    yield Case("max_pool", str(number), values)

    def indices(rng):
        array = rng.integers(0, x[2] * x[3], y)
        array.flat[::5] = x[2] * x[3]  # outside: ignored
        array.flat[3::7] = -1
        return array

    yield Case("max_pool_backward", str(number), lambda r, d: (_normal(r, d, y), indices(r), x))


def _average_pool_cases(number, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    settings = (kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    y = (*x[:2], *geometry.pooling_output_size(x[2:], kernel, stride, padding, (1, 1), ceil_mode))
    yield Case("average_pool", str(number), lambda r, d: (_normal(r, d, x), *settings))
    yield Case("average_pool_backward", str(number), lambda r, d: (_normal(r, d, y), x, *settings))


def _adaptive_pool_cases(number, x, size):
    yield Case("adaptive_average_pool", str(number), lambda r, d: (_normal(r, d, x), size))
    yield Case("adaptive_average_pool_backward", str(number), lambda r, d: (_normal(r, d, (*x[:2], *size)), x))


def _resize_cases(number, x, size, scale):
    y = (*x[:2], *size)
    for flag in (False, True):
        name = f"{number} {flag}"
        yield Case("nearest", name, lambda r, d, flag=flag: (_normal(r, d, x), size, scale, flag))
        yield Case("nearest_backward", name, lambda r, d, flag=flag: (_normal(r, d, y), x, scale, flag))
        yield Case("bilinear", name, lambda r, d, flag=flag: (_normal(r, d, x), size, flag, scale))
        yield Case("bilinear_backward", name, lambda r, d, flag=flag: (_normal(r, d, y), x, flag, scale))


def _channel_cases(number, shape):
    channels = shape[1:2]

    def parameters(rng, dtype, affine):
        return (_normal(rng, dtype, channels), _normal(rng, dtype, channels)) if affine else (None, None)

    def statistics(rng, dtype):
        return _normal(rng, dtype, channels), rng.uniform(0.5, 2, channels).astype(dtype)

    for affine in (False, True):
        name = f"{number}{' affine' if affine else ''}"
        yield Case(
            "batch_norm_train",
            name,
            lambda r, d, a=affine: (_normal(r, d, shape), *parameters(r, d, a), 1e-5),
        )
        yield Case(
            "batch_norm_eval",
            name,
            lambda r, d, a=affine: (_normal(r, d, shape), *parameters(r, d, a), *statistics(r, d), 1e-5),
        )
        for kernel in ("batch_norm_train_backward", "batch_norm_eval_backward"):
            yield Case(
                kernel,
                name,
                lambda r, d, a=affine: (
                    _normal(r, d, shape),
                    _normal(r, d, shape),
                    parameters(r, d, a)[0],
                    *statistics(r, d),
                    1e-5,
                ),
            )
    for residual in (False, True):
        for relu in (False, True):
            yield Case(
                "scale_shift",
                f"{number} {residual} {relu}",
                lambda r, d, residual=residual, relu=relu: (
                    _normal(r, d, shape),
                    _normal(r, d, channels),
                    _normal(r, d, channels),
                    _normal(r, d, shape) if residual else None,
                    relu,
                ),
            )
    yield Case("channel_sum", str(number), lambda r, d: (_normal(r, d, shape),))
    yield Case("relu", str(number), lambda r, d: (_normal(r, d, shape),))
    yield Case("relu_backward", str(number), lambda r, d: (_normal(r, d, shape), _normal(r, d, shape)))


def arguments(case: Case, dtype: type, seed: int = 0) -> tuple[Any, ...]:
    """The call's arguments, the same every time."""
    return case.arguments(np.random.default_rng(seed), dtype)


def results(value: Any) -> tuple[np.ndarray, ...]:
    """What a kernel returned, always as a tuple."""
    return value if isinstance(value, tuple) else (value,)
