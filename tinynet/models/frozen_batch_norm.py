"""Batch normalization that no longer learns: what detectors put on a pretrained backbone."""

from __future__ import annotations

from typing import Any

from tinynet import Tensor, nn, ones, zeros

__all__ = ["FrozenBatchNorm2d"]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization with fixed statistics and a fixed affine map (torchvision.ops.FrozenBatchNorm2d).

    (N, C, H, W) to the same shape: ``scale = weight / sqrt(running_var + eps)``,
    ``y = x·scale + (bias - running_mean·scale)``, the same in training and in evaluation mode. All four are
    buffers, so no optimizer sees them. Files of an ordinary BatchNorm2d load too: their
    ``num_batches_tracked`` is dropped. `eps` may be set to 0, as torchvision does for its first RetinaNet.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", ones(num_features))
        self.register_buffer("bias", zeros(num_features))
        self.register_buffer("running_mean", zeros(num_features))
        self.register_buffer("running_var", ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"
