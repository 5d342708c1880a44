"""Gradient clipping and parameters as one vector (torch.nn.utils)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..errors import ShapeError
from ..functions import cat
from ..kernels.launch import single_threaded_blas
from ..tape import no_grad
from ..tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scales all gradients in place so that the norm of all of them together is at most `max_norm`.

    `norm_type` p > 0, or ``inf`` for the largest magnitude. Returns the norm before clipping, a 0-d tensor.
    Raises RuntimeError for a NaN or infinite norm if `error_if_nonfinite`. Source: torch.nn.utils.clip_grad_norm_.
    """
    max_norm, norm_type = float(max_norm), float(norm_type)
    gradients = _gradients(parameters)
    if not gradients:
        return Tensor(np.zeros((), np.float32))
    total = _total_norm([gradient._array for gradient in gradients], norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    factor = max_norm / (total + 1e-6)
    if not factor >= 1.0:  # NaN too: it reaches the gradients, as in torch
        with no_grad(), np.errstate(invalid="ignore"):
            for gradient in gradients:
                gradient.mul_(factor)
    return Tensor(np.asarray(total, gradients[0]._array.dtype))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limits every gradient element in place to ``[-clip_value, clip_value]``."""
    clip_value = float(clip_value)
    with no_grad():
        for gradient in _gradients(parameters):
            gradient.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and joined, as one vector (differentiable)."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copies consecutive slices of a vector into the parameters' data; ShapeError if the sizes do not add up."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected a Tensor as the vector, got {type(vec).__name__}")
    parameters = list(parameters)
    needed = sum(parameter.numel() for parameter in parameters)
    if vec.ndim != 1 or vec.numel() != needed:
        raise ShapeError(
            f"vector_to_parameters: the parameters hold {needed} values, the vector has shape {list(vec.shape)}"
        )
    start = 0
    with no_grad():
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.copy_(vec[start:stop].reshape(parameter.shape))
            start = stop


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _total_norm(arrays: list[np.ndarray], norm_type: float) -> float:
    """The p-norm of all elements, summed in float64."""
    if norm_type == math.inf:
        return float(np.max([np.max(np.abs(array), initial=0.0) for array in arrays]))
    with single_threaded_blas():  # NumPy takes the norm of a vector from BLAS
        norms = [np.linalg.norm(array.astype(np.float64, copy=False).ravel(), norm_type) for array in arrays]
        return float(np.linalg.norm(norms, norm_type))
