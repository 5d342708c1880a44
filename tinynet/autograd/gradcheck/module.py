"""A module lent to the checker in float64, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tinynet.tensor import Tensor

from .inputs import array_of, input_names


@contextmanager
def in_double(module, input) -> Iterator[tuple[Callable, tuple, list[str], Callable[[], None]]]:
    """``(func, inputs, names, restore)`` to check ``module`` with; afterwards the module is what it was."""
    inputs = tuple(_doubled(item) for item in (input if isinstance(input, (tuple, list)) else (input,)))
    parameters = dict(module.named_parameters())
    before = {name: (p.data, p.grad, p.data.numpy().copy()) for name, p in parameters.items()}
    buffers = [
        (owner, name, tensor, array_of(tensor).copy())
        for owner in module.modules() for name, tensor in owner._buffers.items() if tensor is not None
    ]
    try:
        module.double()
        checked = {name: p for name, p in parameters.items() if p.requires_grad}
        names = input_names(module, len(inputs)) + [f"parameter {name}" for name in checked]
        yield (
            lambda *arguments: module(*arguments[: len(inputs)]), (*inputs, *checked.values()), names,
            _buffer_restorer(module),
        )
    finally:
        for name, parameter in parameters.items():
            data, grad, values = before[name]
            parameter.grad = None
            array_of(data)[...] = values
            parameter.data = data
            parameter.grad = grad
        for owner, name, tensor, values in buffers:
            array_of(tensor)[...] = values
            owner._buffers[name] = tensor


def _doubled(item):
    """A float64 copy that requires grad of a floating tensor; anything else unchanged."""
    if not isinstance(item, Tensor) or array_of(item).dtype.kind != "f":
        return item
    return item.detach().clone().double().requires_grad_()


def _buffer_restorer(module) -> Callable[[], None]:
    """Puts the buffers (running statistics) back to what they are now, so that every call sees the same."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for _, buffer in module.named_buffers():
        kept.append((array_of(buffer), array_of(buffer).copy()))

    def restore() -> None:
        for array, values in kept:
            array[...] = values

    return restore
