"""Modules and sizes in a few words, the same in tables, diagrams and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinynet import nn


def describe(module: nn.Module) -> str:
    """The settings that matter to a reader: ``3×3, 64 → 128, stride 2`` of a convolution, nothing of a ReLU."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        parts = [by(module.kernel_size), f"{module.in_channels} → {module.out_channels}"]
        parts += [f"stride {_one(module.stride)}"] if _one(module.stride) != "1" else []
        parts += [f"dilation {_one(module.dilation)}"] if _one(module.dilation) != "1" else []
        parts += [f"{module.groups} groups"] if module.groups != 1 else []
        return ", ".join(parts)
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        return f"{by(_pair(module.kernel_size))}, stride {_one(module.stride)}"
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return f"to {by(_pair(module.output_size))}"
    if isinstance(module, nn.Linear):
        return f"{module.in_features} → {module.out_features}"
    return ""


def by(sizes: Sequence[Any]) -> str:
    """``1×3×224×224``; a 0-d shape is called a scalar."""
    return "×".join(str(size) for size in sizes) if len(sizes) else "scalar"


def _one(value: Any) -> str:
    pair = _pair(value)
    return str(pair[0]) if pair[0] == pair[1] else by(pair)


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[1]) if isinstance(value, (tuple, list)) else (value, value)
