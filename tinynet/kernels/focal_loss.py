"""The focal loss of independent yes-or-no classifications and its slope, in one pass (Lin et al. 2017, equation 5).

With p = sigmoid(x), q = 1 - p and miss = p·(1 - t) + q·t, the share of certainty that is missing, the loss is
alpha_t · miss^gamma · ce, where ce = softplus(x) - t·x is the cross entropy, whose slope is p - t. So the slope is
alpha_t · (miss^gamma · (p - t) + gamma · miss^(gamma - 1) · (1 - 2t)·p·q · ce).
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.kernels.launch import inner, jit, launch, prange, readable
from tinynet.kernels.registry import Kernel


def _focal_loss_loops(x, t, alpha, gamma):
    losses, slopes = np.empty_like(x, order="C"), np.empty_like(x, order="C")
    for place in np.ndindex(x.shape):
        losses[place], slopes[place] = _focal(float(x[place]), float(t[place]), alpha, gamma)
    return losses, slopes


def _focal(x: float, t: float, alpha: float, gamma: float) -> tuple[float, float]:
    """One loss and its slope."""
    if math.isnan(x):
        return math.nan, math.nan
    decay = math.exp(-abs(x))  # never overflows
    large, small = 1 / (1 + decay), decay / (1 + decay)
    p, q = (large, small) if x >= 0 else (small, large)
    ce = max(x, 0) - t * x + math.log1p(decay)
    miss = p * (1 - t) + q * t
    focus = miss * miss if gamma == 2 else miss**gamma
    drift = gamma * focus / miss * (1 - 2 * t) * p * q if miss > 0 else 0.0
    balance = alpha * t + (1 - alpha) * (1 - t) if alpha >= 0 else 1.0
    return balance * focus * ce, balance * (focus * (p - t) + drift * ce)


def _focal_loss_numpy(x, t, alpha, gamma):
    """Loss and slope of every logit x with target t in [0, 1]; alpha -1 leaves the balance out."""
    one = x.dtype.type(1)
    decay = np.exp(-np.abs(x))
    large, small = one / (one + decay), decay / (one + decay)
    p, q = np.where(x >= 0, large, small), np.where(x >= 0, small, large)
    ce = np.maximum(x, 0) - t * x + np.log1p(decay)
    miss = p * (one - t) + q * t
    focus = np.square(miss) if gamma == 2 else miss ** x.dtype.type(gamma)
    with np.errstate(all="ignore"):
        drift = gamma * focus / miss * (one - 2 * t) * p * q
    slopes = focus * (p - t) + np.where(miss > 0, drift, 0) * ce  # 0 / 0 where nothing is missing
    losses = focus * ce
    if alpha >= 0:
        balance = (2 * alpha - 1) * t + (1 - alpha)
        losses *= balance
        slopes *= balance
    return np.ascontiguousarray(losses), np.ascontiguousarray(slopes)


_focal_compiled = inner(_focal)


@jit
def _focal_loss_compiled(x, t, alpha, gamma, losses, slopes):
    for i in prange(len(x)):
        loss, slope = _focal_compiled(x[i], t[i], alpha, gamma)
        losses[i] = loss
        slopes[i] = slope


def _focal_loss_numba(x, t, alpha, gamma):
    losses, slopes = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    if x.size:
        flat = (array.reshape(-1) for array in (readable(x), readable(t)))
        results = losses.reshape(-1), slopes.reshape(-1)
        launch(_focal_loss_compiled, *flat, float(alpha), float(gamma), *results, cost=20.0 * x.size)
    return losses, slopes


focal_loss = Kernel(
    "focal_loss",
    "focal_loss",
    loops=_focal_loss_loops,
    numpy=_focal_loss_numpy,
    numba=_focal_loss_numba,
    shapes=lambda x, *rest: (x.shape, x.shape),
)
