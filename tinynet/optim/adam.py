"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..kernels.descent import can_descend, descend_adaptively
from ..tensor import Tensor
from .optimizer import Optimizer, blocks, check_option, state_buffer


class Adam(Optimizer):
    """Adam (torch.optim.Adam; Kingma and Ba 2015, `amsgrad`: Reddi et al. 2018).

    m and v are the running means of g and g² with rates 1 - betas; step t moves p by
    -lr/(1 - beta1^t) · m / (sqrt(v)/sqrt(1 - beta2^t) + eps). `weight_decay` adds weight_decay · p to g, or,
    with `decoupled_weight_decay`, first scales p by 1 - lr · weight_decay as AdamW does. `maximize` climbs.
    Raises ValueError for negative or NaN options (lr = 0 is legal) and betas outside of [0, 1).
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
                 decoupled_weight_decay: bool = False) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize, decoupled_weight_decay=decoupled_weight_decay))

    def _check_options(self, group: dict[str, Any]) -> None:
        owner = type(self).__name__
        for name in ("lr", "eps", "weight_decay"):
            check_option(owner, name, group[name])
        if len(group["betas"]) != 2:
            raise ValueError(f"{owner}: betas must be a pair, got {group['betas']}")
        for i, beta in enumerate(group["betas"]):
            check_option(owner, f"betas[{i}]", beta, below=1.0)

    def _update(self, parameter: np.ndarray, gradient: np.ndarray, state: dict[str, Any],
                group: dict[str, Any]) -> None:
        # float(): a NumPy float64 scalar would turn the float32 products into float64
        lr, eps, decay = (float(group[name]) for name in ("lr", "eps", "weight_decay"))
        beta1, beta2 = map(float, group["betas"])
        step = _next_step(state)
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[:3 if group["amsgrad"] else 2]
        buffers = [state_buffer(state, name, parameter) for name in names]
        if not group["amsgrad"] and not group["maximize"] and can_descend(parameter, gradient, *buffers):
            decay, shrink = (0.0, 1 - lr * decay) if group["decoupled_weight_decay"] else (decay, 1.0)
            mean, square = buffers
            descend_adaptively(parameter, gradient, mean, square, lr, (beta1, beta2), step, eps, decay, shrink)
            return
        step_size, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        for p, g, mean, square, *largest in blocks(parameter, gradient, *buffers):
            if group["maximize"]:
                g = -g
            if decay and group["decoupled_weight_decay"]:
                p *= 1 - lr * decay
            elif decay:
                g = g + decay * p
            mean += (1 - beta1) * (g - mean)
            square *= beta2
            square += (1 - beta2) * (g * g)
            if largest:
                square = np.maximum(largest[0], square, out=largest[0])
            denominator = np.sqrt(square)
            denominator /= root
            denominator += eps
            p -= step_size * (mean / denominator)


class AdamW(Adam):
    """Adam with decoupled weight decay (torch.optim.AdamW; Loshchilov and Hutter 2019).

    First p *= 1 - lr · weight_decay (0.01 by default), then Adam's step.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
                 maximize: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize,
                         decoupled_weight_decay=True)


def _next_step(state: dict[str, Any]) -> int:
    # A 0-d float32 tensor, as torch keeps it, so that states can be exchanged.
    if "step" not in state:
        state["step"] = Tensor(np.zeros((), np.float32))
    state["step"]._array[...] += 1
    return int(state["step"]._array)
