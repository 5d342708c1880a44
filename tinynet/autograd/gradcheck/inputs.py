"""What a gradient check accepts as input, and the names it calls the inputs by."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from tinynet.tensor import Tensor

from .report import GradcheckRefusal


def array_of(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory as an array."""
    return tensor.detach().numpy()


def as_inputs(inputs) -> tuple:
    """One tensor, or a sequence of tensors and other arguments, as a tuple."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    if not isinstance(inputs, Sequence) or isinstance(inputs, str):
        raise TypeError(f"gradcheck: inputs must be a tensor or a tuple of tensors, got {type(inputs).__name__}")
    return tuple(inputs)


def input_names(func: Callable, count: int) -> list[str]:
    """``input 0 (x)``: the position and, where it can be found, the name that the function gives it."""
    names = _parameter_names(func)[:count]
    names += [""] * (count - len(names))
    return [f"input {position}" + (f" ({name})" if name else "") for position, name in enumerate(names)]


def _parameter_names(func: Callable) -> list[str]:
    owner = getattr(func, "__self__", func)
    skipped = 0
    if hasattr(owner, "backward") and hasattr(owner, "forward"):  # MyFunction.apply: the names after ctx
        func, skipped = owner.forward, 1
    elif hasattr(owner, "forward"):  # a module
        func = owner.forward
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return ["" if name == "self" else name for name in positional[skipped:]]


def check_inputs(inputs: tuple, names: Sequence[str]) -> list[int]:
    """The positions of the inputs to be checked. Raises GradcheckRefusal with the reason if there is none."""
    if not inputs:
        raise GradcheckRefusal("gradcheck: no inputs were given (inputs is empty)")
    tensors = [(position, item) for position, item in enumerate(inputs) if isinstance(item, Tensor)]
    checked = [position for position, tensor in tensors if tensor.requires_grad]
    if not checked:
        raise GradcheckRefusal(_nothing_to_check(tensors, names))
    for position in checked:
        _check_array(array_of(inputs[position]), names[position])
    _check_shared(tensors, checked, names)
    return checked


def _nothing_to_check(tensors, names) -> str:
    if tensors and all(array_of(tensor).dtype.kind in "iub" for _, tensor in tensors):
        listed = ", ".join(f"{names[position]} is {array_of(tensor).dtype.name}" for position, tensor in tensors)
        return f"gradcheck: integer and boolean inputs are constants, and there is no other input ({listed})"
    return (
        "gradcheck: none of the inputs requires grad, so there is nothing to check; "
        "make one with requires_grad=True"
    )


def _check_array(array: np.ndarray, name: str) -> None:
    if array.dtype.kind == "c":
        raise GradcheckRefusal(f"gradcheck: {name} is complex; only real inputs can be checked")
    if array.dtype != np.float64:
        raise GradcheckRefusal(
            f"gradcheck: {name} is {array.dtype.name}; finite differences need float64: use .double() "
            "on the inputs and on the module"
        )
    if array.size == 0:
        raise GradcheckRefusal(f"gradcheck: {name} is empty (shape {list(array.shape)}): nothing to check")
    if not np.isfinite(array).all():
        index = first_index(~np.isfinite(array))
        raise GradcheckRefusal(f"gradcheck: {name} holds {array[index]} (NaN or infinite) at index {index}")
    if overlaps_itself(array):
        raise GradcheckRefusal(
            f"gradcheck: {name} has overlapping memory (shape {list(array.shape)}, strides "
            f"{[stride // array.itemsize for stride in array.strides]}): elements cannot be moved one at a "
            "time; pass .clone()"
        )
    if not array.flags.writeable:
        raise GradcheckRefusal(f"gradcheck: {name} is read-only, its elements cannot be moved; pass .clone()")


def _check_shared(tensors, checked, names) -> None:
    """Two different tensors over the same memory: moving one would move the other."""
    for (first, a), (second, b) in itertools.combinations(tensors, 2):
        moved = first in checked or second in checked
        if moved and a is not b and np.shares_memory(array_of(a), array_of(b)):
            raise GradcheckRefusal(
                f"gradcheck: {names[first]} and {names[second]} share (overlapping) memory; pass .clone() of one"
            )


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether two elements of the array are the same memory, as after expand or a sliding window."""
    axes = sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape) if size > 1)
    reach = array.itemsize
    for stride, size in axes:
        if stride < reach:
            break
        reach += stride * (size - 1)
    else:
        return False
    offsets = np.zeros((), np.int64)
    for stride, size in axes:
        offsets = offsets[..., None] + stride * np.arange(size)
    offsets = np.sort(offsets.ravel())
    return bool((np.diff(offsets) < array.itemsize).any())


def first_index(mask: np.ndarray) -> tuple[int, ...]:
    """The index of the first True, as plain integers."""
    return plain_index(int(np.argmax(mask)), mask.shape)


def plain_index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of a flat position, as plain integers."""
    return tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()


def broadcast_axes(small: tuple[int, ...], large: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of ``large`` along which an array of shape ``small`` is repeated; () if it does not broadcast."""
    added = len(large) - len(small)
    if added < 0 or any(a not in (1, b) for a, b in zip(small, large[added:])):
        return ()
    return tuple(
        axis for axis, size in enumerate(large) if size > 1 and (axis < added or small[axis - added] == 1)
    )
