"""Convolution layers (torch.nn.Conv2d, torch.nn.ConvTranspose2d)."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from ..errors import ShapeError
from ..ops import checks
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter


class _Convolution(Module):
    """The settings, checks and initialization that both directions share."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride, padding, dilation, transposed, output_padding, groups,
        bias, padding_mode, device, dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        self.in_channels = checks.integer(name, "in_channels", in_channels, minimum=1)
        self.out_channels = checks.integer(name, "out_channels", out_channels, minimum=1)
        self.groups = checks.integer(name, "groups", groups, minimum=1)
        checks.divides(name, self.groups, "in_channels", self.in_channels)
        checks.divides(name, self.groups, "out_channels", self.out_channels)
        if padding_mode != "zeros":
            raise NotImplementedError(f"{name}: padding_mode={padding_mode!r} is not supported; F.pad the input")
        self.kernel_size = checks.pair(name, "kernel_size", kernel_size, minimum=1)
        self.stride = checks.pair(name, "stride", stride, minimum=1)
        self.dilation = checks.pair(name, "dilation", dilation, minimum=1)
        self.padding: Any = padding
        if isinstance(padding, str):
            self._check_named_padding()
        else:
            self.padding = checks.pair(name, "padding", padding, minimum=0)
        self.transposed = transposed
        self.output_padding = checks.pair(name, "output_padding", output_padding, minimum=0)
        self.padding_mode = padding_mode
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = new_parameter((first, second // groups, *self.kernel_size), device, dtype)
        if bias:
            self.bias = new_parameter((out_channels,), device, dtype)
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _check_named_padding(self) -> None:
        name = type(self).__name__
        if self.padding not in ("same", "valid"):
            raise ValueError(f"{name}: padding={self.padding!r} is neither 'same', 'valid' nor numbers")
        if self.padding == "same" and self.stride != (1, 1):
            raise ValueError(f"{name}: padding='same' is not supported for strided convolutions, stride={self.stride}")

    def reset_parameters(self) -> None:
        """Draws weight and bias from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, default in (
            ("padding", (0, 0)), ("dilation", (1, 1)), ("output_padding", (0, 0)), ("groups", 1),
        ):  # fmt: skip
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv2d(_Convolution):
    """2-D convolution, (N, in_channels, H, W) -> (N, out_channels, OH, OW), OH as in :func:`functional.conv2d`.

    Integers or (height, width) pairs. Weight (out_channels, in_channels / groups, kh, kw). Raises ShapeError or
    TypeError for settings that do not fit each other.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(_Convolution):
    """The gradient of a convolution as a layer: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    OH = (H - 1)·stride - 2·padding + dilation·(kernel - 1) + output_padding + 1.
    Weight (in_channels, out_channels / groups, kh, kw).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        if isinstance(padding, str):
            raise TypeError(f"ConvTranspose2d: padding must be numbers, got {padding!r}")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """`output_size`: the (H, W) to produce, chosen among those that the stride allows."""
        extra = self.output_padding if output_size is None else self._output_padding_for(input, output_size)
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _output_padding_for(self, input: Tensor, output_size: Any) -> tuple[int, int]:
        wanted = tuple(output_size)[-2:]
        smallest = tuple(
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for size, stride, padding, dilation, kernel in zip(
                input.shape[-2:], self.stride, self.padding, self.dilation, self.kernel_size
            )
        )
        largest = tuple(low + stride - 1 for low, stride in zip(smallest, self.stride))
        if len(wanted) != 2 or not all(low <= size <= high for low, size, high in zip(smallest, wanted, largest)):
            raise ShapeError(
                f"ConvTranspose2d: requested output size {list(output_size)}, but for an input of shape "
                f"{list(input.shape)} heights and widths from {list(smallest)} to {list(largest)} are possible"
            )
        return wanted[0] - smallest[0], wanted[1] - smallest[1]


class Conv3d(Module):
    """Refuses to be built: tinynet computes on images, not volumes. The name is here for code that mentions it."""

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("Conv3d: tinynet has 2-D convolutions only (nn.Conv2d)")
