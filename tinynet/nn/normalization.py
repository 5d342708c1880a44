"""Batch and group normalization (torch.nn)."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from .. import dtypes, factories
from ..errors import ShapeError
from ..ops import checks
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter


class _BatchNorm(Module):
    """Batch normalization over all axes but 1 (Ioffe and Szegedy 2015).

    In training, with the batch's own mean and biased variance, while
    ``running = (1 - momentum)·running + momentum·batch`` is kept (with the unbiased variance; `momentum` None:
    the mean over all batches). In evaluation, with the running statistics, if they are tracked.
    """

    _version = 2  # since then a state_dict has num_batches_tracked
    _dimensions: ClassVar[tuple[int, ...]]

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features = checks.integer(type(self).__name__, "num_features", num_features, minimum=1)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        _register_scale_and_shift(self, shape, affine, affine and bias, device, dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", factories.zeros(shape, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", factories.ones(shape, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", _counter() if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Fresh statistics, weight 1, bias 0."""
        self.reset_running_stats()
        _reset_scale_and_shift(self)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        counts = self.training and self.track_running_stats and self.num_batches_tracked is not None
        momentum = 0.0 if self.momentum is None else self.momentum
        if counts and self.momentum is None:
            momentum = 1.0 / (self.num_batches_tracked.item() + 1)
        tracked = not self.training or self.track_running_stats
        output = self._normalise(
            input,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
        )
        if counts:
            self.num_batches_tracked.add_(1)
        return output

    def _normalise(self, *arguments: Any) -> Tensor:
        return F.batch_norm(*arguments)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in self._dimensions:
            allowed = " or ".join(f"{n}D" for n in self._dimensions)
            raise ShapeError(
                f"{type(self).__name__}: expected {allowed} input, got {input.ndim}D input of shape {list(input.shape)}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            state_dict[key] = self.num_batches_tracked if self.num_batches_tracked is not None else _counter()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L)."""

    _dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W)."""

    _dimensions = (4,)


class BatchNorm3d(Module):
    """Refuses to be built: tinynet computes on images, not volumes. The name is here for code that mentions it."""

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("BatchNorm3d: tinynet has BatchNorm1d and BatchNorm2d only")


class GroupNorm(Module):
    """Normalizes groups of channels per sample (Wu and He 2018): (N, num_channels, ...) to the same shape."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
        dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_groups = checks.integer("GroupNorm", "num_groups", num_groups, minimum=1)
        self.num_channels = checks.integer("GroupNorm", "num_channels", num_channels, minimum=1)
        checks.divides("GroupNorm", self.num_groups, "num_channels", self.num_channels)
        self.eps = eps
        self.affine = affine
        _register_scale_and_shift(self, (self.num_channels,), affine, affine and bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset_scale_and_shift(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={bias}"


def _register_scale_and_shift(module: Module, shape, weight: bool, bias: bool, device, dtype) -> None:
    for name, wanted in (("weight", weight), ("bias", bias)):
        module.register_parameter(name, new_parameter(shape, device, dtype) if wanted else None)


def _reset_scale_and_shift(module: Module) -> None:
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)


def _counter() -> Tensor:
    return factories.zeros((), dtype=dtypes.int64)
