"""Stride and receptive field of an operation's output, and what the operation costs.

Along a path both follow from each window (Dumoulin and Visin 2016, "A guide to convolution arithmetic";
Araujo et al. 2019, "Computing receptive fields"): a window of k at dilation d and stride s widens the field
by d·(k - 1) strides of its input and multiplies the stride by s. Where paths join, the widest counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tinynet import nn
from tinynet.ops import convolution, indexing, linear, pooling, reduction, shape, upsampling
from tinynet.tape import Node

Pair = tuple[Fraction, Fraction]


class Geometry(NamedTuple):
    """Of one map (N, C, H, W): pixels of the input between neighbours, and pixels that one of them sees."""

    stride: Pair
    field: Pair


Source = tuple[tuple[int, ...], Geometry | None]


def input_geometry(shapes: Sequence[tuple[int, ...]]) -> list[Geometry | None]:
    """The inputs' own geometry: in pixels of the largest image among them, of which smaller ones are taken to be
    scaled versions (the stages of a backbone)."""
    largest = [max((s[axis] for s in shapes if len(s) == 4), default=1) for axis in (2, 3)]
    geometries: list[Geometry | None] = []
    for s in shapes:
        if len(s) != 4:
            geometries.append(None)
            continue
        scale = Fraction(math.ceil(largest[0] / s[2])), Fraction(math.ceil(largest[1] / s[3]))
        geometries.append(Geometry(scale, scale))
    return geometries


def geometry_of(node: Node, sources: Sequence[Source], module: nn.Module) -> Geometry | None:
    """The geometry of what `node` made from `sources`, or None where there is no map of an image."""
    output = node.outputs[0][0]
    joined = _joined(output, sources)
    if joined is None or len(output) != 4:
        return None
    saved: dict[str, Any] = node.saved or {}
    operation: Any = node.operation
    if operation is convolution.Convolution:
        stride, _, dilation, _ = saved["settings"]
        return _windowed(joined, saved["weight_shape"][2:], stride, dilation)
    if operation is convolution.TransposedConvolution:
        stride, _, dilation, _ = saved["settings"]
        return _spread(joined, saved["weight_shape"][2:], stride, dilation)
    if operation is pooling.MaxPool:
        kernel, stride, _, dilation = saved["window"]
        return _windowed(joined, kernel, stride, dilation)
    if operation is pooling.AveragePool:
        kernel, stride = saved["settings"][:2]
        return _windowed(joined, kernel, stride, (1, 1))
    if operation is pooling.AdaptiveAveragePool:
        return _adaptive(joined, saved["input_shape"][2:], output[2:])
    if operation in (upsampling.Nearest, upsampling.Bilinear):
        return _resized(joined, saved["input_shape"][2:], output[2:], operation is upsampling.Bilinear)
    if operation.__module__ == reduction.__name__:
        return _adaptive(joined, sources[0][0][2:], output[2:])
    if operation is shape.Index:
        steps = _index_steps(saved["key"])
        return Geometry((joined.stride[0] * steps[0], joined.stride[1] * steps[1]), joined.field)
    return joined


def cost_of(node: Node) -> tuple[int, int]:
    """Multiply-adds of convolutions, linear layers and matrix products, and the bytes of im2col's columns.

    A 1×1 convolution of stride 1 needs no columns: its input is the matrix already.
    """
    (output, dtype), saved, operation = node.outputs[0], node.saved or {}, node.operation
    elements = math.prod(output)
    if operation is convolution.Convolution:
        weight, (stride, padding, _, groups) = saved["weight_shape"], saved["settings"]
        window = math.prod(weight[1:])
        direct = tuple(weight[2:]) == stride == (1, 1) and padding == (0, 0)
        rows = 0 if direct else window * groups
        return elements * window, rows * output[0] * output[2] * output[3] * dtype.itemsize
    if operation is convolution.TransposedConvolution:
        window, (count, _, height, width) = math.prod(saved["weight_shape"][1:]), saved["input_shape"]
        rows = window * saved["settings"][3]
        return math.prod(saved["input_shape"]) * window, rows * count * height * width * dtype.itemsize
    if operation is linear.Linear:
        return elements * saved["input_shape"][-1], 0
    if operation is linear.MatMul:
        return elements * saved["shapes"][0][-1], 0
    return 0, 0


def _joined(output: tuple[int, ...], sources: Sequence[Source]) -> Geometry | None:
    """The widest field of all, the largest stride of those that have the output's size (others are spread over it)."""
    maps = [(s, geometry) for s, geometry in sources if geometry is not None]
    if not maps:
        return None
    same = [geometry for s, geometry in maps if s[-2:] == tuple(output[-2:])] or [geometry for _, geometry in maps]
    return Geometry(
        (max(g.stride[0] for g in same), max(g.stride[1] for g in same)),
        (max(g.field[0] for _, g in maps), max(g.field[1] for _, g in maps)),
    )


def _windowed(source: Geometry, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Geometry:
    fields = [f + d * (k - 1) * s for f, k, d, s in zip(source.field, kernel, dilation, source.stride)]
    strides = [own * s for own, s in zip(source.stride, stride)]
    return Geometry((strides[0], strides[1]), (fields[0], fields[1]))


def _spread(source: Geometry, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Geometry:
    """A transposed window: an output pixel lies under at most ceil(extent / stride) input pixels' kernels."""
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    fields = [f + (math.ceil(e / s) - 1) * own for f, e, s, own in zip(source.field, extents, stride, source.stride)]
    strides = [own / s for own, s in zip(source.stride, stride)]
    return Geometry((strides[0], strides[1]), (fields[0], fields[1]))


def _adaptive(source: Geometry, size: Sequence[int], output: Sequence[int]) -> Geometry:
    fields = [f + (math.ceil(i / o) - 1) * s for f, i, o, s in zip(source.field, size, output, source.stride)]
    strides = [s * Fraction(i, o) for s, i, o in zip(source.stride, size, output)]
    return Geometry((strides[0], strides[1]), (fields[0], fields[1]))


def _resized(source: Geometry, size: Sequence[int], output: Sequence[int], bilinear: bool) -> Geometry:
    """Nearest: each output pixel is one of the input; bilinear: it mixes two per axis."""
    factors = [_factor(i, o) for i, o in zip(size, output)]
    fields = [f + (s if bilinear and i != o else 0) for f, s, i, o in zip(source.field, source.stride, size, output)]
    strides = [s / factor for s, factor in zip(source.stride, factors)]
    return Geometry((strides[0], strides[1]), (fields[0], fields[1]))


def _factor(size: int, output: int) -> Fraction:
    """How much larger the output is: n, if a stride of n leads back to the input's size (13 → 25 is twice)."""
    whole = math.ceil(output / size)
    return Fraction(whole) if math.ceil(output / whole) == size else Fraction(output, size)


def _index_steps(key: indexing.Key) -> tuple[int, int]:
    """How far apart the kept rows and columns are, for keys of slices on all four axes."""
    parts = [part for part in key.basic if part is not Ellipsis]
    if key.advanced is not None or not all(isinstance(part, slice) for part in parts):
        return 1, 1
    parts += [slice(None)] * (4 - len(parts)) if Ellipsis in key.basic[-1:] else []
    return (parts[2].step or 1, parts[3].step or 1) if len(parts) == 4 else (1, 1)
