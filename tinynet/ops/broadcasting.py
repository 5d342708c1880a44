"""Broadcasting, explained when it fails and undone in backward."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError


def check_broadcast(name: str, *arrays: np.ndarray) -> None:
    """Raises ShapeError with the shapes unless they broadcast together."""
    shape = arrays[0].shape
    for array in arrays:
        if array.shape != shape:
            break
    else:
        return
    shapes = [array.shape for array in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise ShapeError(
            f"{name}: shapes {listed} do not broadcast: aligned from the right, each pair of sizes must be equal "
            f"or one of them 1{_first_clash(shapes)}"
        ) from None


def sum_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sums ``gradient`` over the axes that broadcasting had stretched, back to ``shape``."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    stretched = tuple(range(extra)) + tuple(
        extra + axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[extra + axis] != 1
    )
    return gradient.sum(axis=stretched).reshape(shape)


def _first_clash(shapes) -> str:
    for axis in range(1, max(len(shape) for shape in shapes) + 1):
        sizes = {shape[-axis] for shape in shapes if len(shape) >= axis} - {1}
        if len(sizes) > 1:
            return f" (dimension {-axis}: {' against '.join(str(size) for size in sorted(sizes))})"
    return ""
