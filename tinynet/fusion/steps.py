"""The steps of a plan: what each reads and makes, and the function on arrays that does it.

A step that is `planned` takes the array to write into as its last argument (None: a new one); all others make
their own result. Constants are part of the function, so a step reads Values only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet import kernels
from tinynet.fusion.fold import ChannelMap, folded
from tinynet.fusion.trace import Constant, Operand, Record, Value
from tinynet.kernels.elementwise import relu_into, scale_shift_into
from tinynet.kernels.layout import channels_last_empty
from tinynet.kernels.pooling import adaptive_average_pool_into, average_pool_into, max_pool_into
from tinynet.kernels.upsampling import bilinear_into, nearest_into
from tinynet.ops import checks
from tinynet.ops.pooling import AdaptiveAveragePool, AveragePool, MaxPool
from tinynet.ops.upsampling import Bilinear, Nearest
from tinynet.tape import DISCARD

Function = Callable[..., Any]
Settings = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding, dilation, groups


class Packed:
    """Convolution weights in the tile's order, once for all plans: plans of other shapes use the same."""

    def __init__(self) -> None:
        self._packed: dict[Any, kernels.PackedConvolution] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def convolution(self, weight: np.ndarray, bias: np.ndarray | None, settings: Settings) -> kernels.PackedConvolution:
        """The packed form of these weights, told apart by their bytes."""
        digests = [b"" if array is None else hashlib.blake2b(array.tobytes()).digest() for array in (weight, bias)]
        key = (weight.shape, weight.dtype, settings, *digests)
        if key not in self._packed:
            self._packed[key] = kernels.PackedConvolution(weight, bias, *settings)
        return self._packed[key]


@dataclass(eq=False)
class Step:
    """What every step has."""

    reads: tuple[Value, ...]
    outputs: tuple[Value, ...]
    planned = False
    is_view = False
    joins = False  # whether it adds a residual

    @property
    def overwritable(self) -> Value | None:
        """The input whose memory the output may take, if nobody reads it any more."""
        return None

    def function(self, packed: Packed) -> Function:
        """The computation: arrays of `reads` in, the output's array (or a tuple of several) out."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What it does, for the reader of a plan."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """Where in the model its weights come from; empty without weights."""
        return ""


@dataclass(eq=False)
class _Fused(Step):
    """A computation with what follows it: an affine map per channel, a residual (the last of `reads`), a ReLU."""

    by: ChannelMap | None
    has_residual: bool
    relu: bool

    @property
    def joins(self) -> bool:  # type: ignore[override]
        return self.has_residual

    def _title(self, name: str) -> str:
        norm = "" if self.by is None else " + norm"
        return name + norm + " + join" * self.has_residual + " + relu" * self.relu


@dataclass(eq=False)
class Convolution(_Fused):
    """relu?(conv(x) + bias + residual) in one pass, the norm folded into weight and bias."""

    weight: Constant
    bias: Constant | None
    settings: Settings
    planned = True

    @property
    def overwritable(self) -> Value | None:
        return self.reads[1] if self.has_residual and self.reads[1] is not self.reads[0] else None

    def function(self, packed: Packed) -> Function:
        weight, bias = _weights(self.weight, self.bias, self.by)
        run, relu = packed.convolution(weight, bias, self.settings), self.relu
        if self.has_residual:
            return lambda x, residual, out: run(x, residual, relu, out)
        return lambda x, out: run(x, None, relu, out)

    @property
    def title(self) -> str:
        (stride, _), _, (dilation, _), groups = self.settings
        size = checks.by(self.weight.array.shape[2:])
        details = f"/{stride}" * (stride > 1) + f" dilation {dilation}" * (dilation > 1)
        return self._title(f"convolution {size}{details}" + f" in {groups} groups" * (groups > 1))

    @property
    def label(self) -> str:
        return self.weight.name.removesuffix(".weight")


@dataclass(eq=False)
class Linear(_Fused):
    """relu?(x Wᵀ + bias), a norm folded in."""

    weight: Constant
    bias: Constant | None

    def function(self, packed: Packed) -> Function:
        weight, bias = _weights(self.weight, self.bias, self.by)
        transposed, relu = weight.T, self.relu

        def run(x: np.ndarray) -> np.ndarray:
            rows = kernels.matrix_product(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), transposed)
            if bias is not None:
                rows += bias
            if relu:
                np.maximum(rows, 0, out=rows)
            return rows.reshape(*x.shape[:-1], weight.shape[0])

        return run

    @property
    def title(self) -> str:
        return self._title("linear")

    @property
    def label(self) -> str:
        return self.weight.name.removesuffix(".weight")


def _weights(weight: Constant, bias: Constant | None, by: ChannelMap | None):
    given = None if bias is None else bias.array
    return (weight.array, given) if by is None else folded(weight.array, given, by)


@dataclass(eq=False)
class Elementwise(_Fused):
    """relu?(x·scale + shift + residual) where there is no convolution to do it in."""

    planned = True

    @property
    def overwritable(self) -> Value | None:
        return self.reads[0] if self.by is None and not self.has_residual else None

    def function(self, packed: Packed) -> Function:
        shape, dtype = self.outputs[0].shape, self.outputs[0].dtype
        if self.by is None and not self.has_residual:
            return lambda x, out: relu_into(x, _given_or_new(out, shape, dtype))
        scale, shift = (vector.astype(dtype) for vector in self.by or ChannelMap.identity(shape[1]))
        relu = self.relu
        if self.has_residual:
            return lambda x, residual, out: scale_shift_into(
                x, scale, shift, residual, relu, _given_or_new(out, shape, dtype)
            )
        return lambda x, out: scale_shift_into(x, scale, shift, None, relu, _given_or_new(out, shape, dtype))

    @property
    def title(self) -> str:
        return self._title("").removeprefix(" + ")


@dataclass(eq=False)
class Resampling(Step):
    """Pooling and upsampling."""

    record: Record
    planned = True

    def function(self, packed: Packed) -> Function:
        settings = self.record.settings
        shape, dtype = self.outputs[0].shape, self.outputs[0].dtype

        def into(kernel: Function, *arguments: Any) -> Function:
            return lambda x, out: kernel(x, *arguments, _given_or_new(out, shape, dtype))

        operation = self.record.operation
        if operation is Nearest:
            return into(nearest_into, settings.get("scale"), bool(settings.get("exact", False)))
        if operation is Bilinear:
            return into(bilinear_into, bool(settings.get("align_corners", False)), settings.get("scale"))
        if operation is AdaptiveAveragePool:
            return into(adaptive_average_pool_into)
        window = _window(settings)
        if operation is MaxPool:
            dilation = checks.pair("max_pool2d", "dilation", settings.get("dilation", 1), minimum=1)
            return into(max_pool_into, *window, dilation, bool(settings.get("ceil_mode", False)))
        return into(
            average_pool_into,
            *window,
            bool(settings.get("ceil_mode", False)),
            bool(settings.get("count_include_pad", True)),
            settings.get("divisor_override"),
        )

    @property
    def title(self) -> str:
        size = checks.by(self.outputs[0].shape[2:])
        names = {MaxPool: "max pool", AveragePool: "average pool", AdaptiveAveragePool: "average pool"}
        return f"{names.get(self.record.operation, 'upsample')} to {size}"


def _window(settings: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = checks.pair("pool", "kernel_size", settings["kernel_size"], minimum=1)
    stride = settings.get("stride")
    padding = checks.pair("pool", "padding", settings.get("padding", 0), minimum=0)
    return kernel, kernel if stride is None else checks.pair("pool", "stride", stride, minimum=1), padding


def _given_or_new(out: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return channels_last_empty(shape, dtype) if out is None else out


@dataclass(eq=False)
class Ordinary(Step):
    """A recorded operation as it was: its forward on arrays, with the constants it had."""

    record: Record
    operands: tuple[Operand, ...]

    @property
    def is_view(self) -> bool:  # type: ignore[override]
        return self.record.is_view

    def function(self, packed: Packed) -> Function:
        forward, settings = self.record.operation.forward, self.record.settings
        constants = [operand.array if isinstance(operand, Constant) else None for operand in self.operands]
        places = [place for place, operand in enumerate(self.operands) if isinstance(operand, Value)]
        overwrites = self.record.overwrites

        def run(*arrays: np.ndarray) -> Any:
            operands = constants.copy()
            for place, array in zip(places, arrays):
                operands[place] = array
            if overwrites:
                operands[0] = operands[0].copy()  # type: ignore[union-attr]
            return forward(DISCARD, *operands, **settings)

        return run

    @property
    def title(self) -> str:
        return self.record.operation.name

    @property
    def label(self) -> str:
        names = [operand.name for operand in self.operands if isinstance(operand, Constant) and operand.name]
        return names[0] if names else ""
