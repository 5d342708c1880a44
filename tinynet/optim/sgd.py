"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..kernels.descent import can_descend, descend
from .optimizer import Optimizer, blocks, check_option, state_buffer


class SGD(Optimizer):
    """Stochastic gradient descent (torch.optim.SGD; Nesterov as in Sutskever et al. 2013).

    With gradient g of parameter p: g += weight_decay · p; the buffer is g at the first step and then
    momentum · buffer + (1 - dampening) · g; p -= lr · buffer, or with Nesterov lr · (g + momentum · buffer).
    `maximize` climbs instead. Raises ValueError for negative or NaN options (lr = 0 is legal).
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening,
                                      weight_decay=weight_decay, nesterov=nesterov, maximize=maximize))

    def _check_options(self, group: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_option("SGD", name, group[name])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: Nesterov needs momentum > 0 and dampening = 0, got momentum "
                             f"{group['momentum']} and dampening {group['dampening']}")

    def _update(self, parameter: np.ndarray, gradient: np.ndarray, state: dict[str, Any],
                group: dict[str, Any]) -> None:
        # float(): a NumPy float64 scalar would turn the float32 products into float64
        lr, momentum, decay = (float(group[name]) for name in ("lr", "momentum", "weight_decay"))
        first = state.get("momentum_buffer") is None
        if first:
            state.pop("momentum_buffer", None)  # torch saves None for "no buffer yet"
        buffers = [state_buffer(state, "momentum_buffer", parameter)] if momentum else []
        if momentum and not first and not group["maximize"] and can_descend(parameter, gradient, buffers[0]):
            share = 1 - float(group["dampening"])
            descend(parameter, gradient, buffers[0], lr, momentum, share, decay, group["nesterov"])
            return
        for p, g, *buffer in blocks(parameter, gradient, *buffers):
            update = -g if group["maximize"] else g.copy()
            if decay:
                update += decay * p
            if momentum:
                update = _with_momentum(update, buffer[0], first, momentum, group)
            p -= lr * update


def _with_momentum(gradient: np.ndarray, buffer: np.ndarray, first: bool, momentum: float,
                   group: dict[str, Any]) -> np.ndarray:
    if first:
        buffer[...] = gradient
    else:
        buffer *= momentum
        buffer += (1 - float(group["dampening"])) * gradient
    return gradient + momentum * buffer if group["nesterov"] else buffer
