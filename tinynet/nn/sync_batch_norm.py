"""Batch normalization over the batches of all ranks (torch.nn.SyncBatchNorm)."""

from __future__ import annotations

from typing import Any

from .. import distributed
from ..distributed.group import default_group
from ..errors import ShapeError
from ..ops import normalization
from ..tape import no_grad
from ..tensor import Tensor, apply
from .module import Module
from .normalization import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """Batch normalization of (N, C, ...) with the mean and variance of all ranks' batches together.

    In training under a process group of several ranks; otherwise it is an ordinary batch norm, and has the same
    entries in a state_dict. Statistics are exchanged in float64 in forward, and backward adds the gradient's two sums
    per channel up over the ranks; weight and bias get this rank's part, which `DistributedDataParallel` averages.

    Raises:
        ShapeError: fewer than 2 dimensions, or one value per channel on all ranks together.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, process_group: None = None, device: Any = None, dtype: Any = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        if process_group is not None:
            raise NotImplementedError("SyncBatchNorm: there is one process group, of all ranks; leave it out")

    def _normalise(self, input: Tensor, running_mean, running_var, weight, bias, training, momentum, eps) -> Tensor:
        ranks = default_group() if distributed.is_initialized() else None
        if not self.training or ranks is None or ranks.size == 1:
            return super()._normalise(input, running_mean, running_var, weight, bias, training, momentum, eps)
        running = [None if statistic is None else statistic._array for statistic in (running_mean, running_var)]
        output = apply(
            normalization.BatchNorm, input, weight, bias, running_mean=running[0], running_var=running[1],
            training=True, momentum=momentum, eps=eps, ranks=ranks,
        )  # fmt: skip
        for statistic in (running_mean, running_var):
            if statistic is not None:
                statistic._version_counter.bump()
        return output

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ShapeError(f"SyncBatchNorm: expected at least 2D input, got shape {list(input.shape)}")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: None = None) -> Module:
        """The module with every batch norm in it replaced by a SyncBatchNorm of the same parameters and buffers.

        Children are replaced in place; a batch norm itself is returned as a new module.
        """
        converted = module
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            converted = cls(
                module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats,
                process_group, bias=module.bias is not None,
            )  # fmt: skip
            with no_grad():
                converted.weight, converted.bias = module.weight, module.bias
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(converted, name, getattr(module, name))
            converted.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted
