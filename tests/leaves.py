"""Leaves to differentiate: random ones in float64, and given values."""

from __future__ import annotations

import numpy as np

import tinynet

RNG = np.random.default_rng(0)


def leaf(*shape: int) -> tinynet.Tensor:
    """A random float64 tensor that requires grad."""
    return tinynet.from_numpy(RNG.standard_normal(shape)).requires_grad_()


def leaf_of(values) -> tinynet.Tensor:
    """These values as a tensor that requires grad."""
    return tinynet.tensor(values, requires_grad=True)
