"""Arguments and results as users write them: tensors inside of dicts, lists and tuples, taken out and put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tinynet import Tensor
from tinynet.dtypes import dtype
from tinynet.tensor import device

# What may stand beside tensors: values that are compared, not computed with.
PLAIN = (type(None), bool, int, float, complex, str, bytes, dtype, device, slice, type(Ellipsis), np.generic)


class Place(NamedTuple):
    """Stands for the tensor of this number."""

    number: int


def taken_out(value: Any, what: str) -> tuple[Any, list[Tensor]]:
    """`value` with a `Place` for every tensor, and the tensors; one that stands there twice is taken once.

    Raises TypeError for an object that might hide tensors: `what` says where it stood.
    """
    tensors: list[Tensor] = []
    numbers: dict[int, int] = {}

    def take(item: Any) -> Any:
        if isinstance(item, Tensor):
            number = numbers.setdefault(id(item), len(tensors))
            if number == len(tensors):
                tensors.append(item)
            return Place(number)
        if isinstance(item, (Mapping, tuple, list)):
            return _copied(item, take)
        if isinstance(item, PLAIN):
            return item
        raise TypeError(
            f"fuse: {what} holds a {type(item).__name__}; it takes tensors and plain values, "
            "also inside of dicts, lists and tuples"
        )

    return take(value), tensors


def put_back(template: Any, tensors: list[Any]) -> Any:
    """The structure of `template` with its tensors in their places."""
    if isinstance(template, Place):
        return tensors[template.number]
    if isinstance(template, (Mapping, tuple, list)):
        return _copied(template, lambda item: put_back(item, tensors))
    return template


def key_of(template: Any) -> Any:
    """The structure as something hashable: what is equal has equal types, names and values."""
    if isinstance(template, Place):
        return template
    if isinstance(template, Mapping):
        return type(template), tuple((name, key_of(item)) for name, item in template.items())
    if isinstance(template, (tuple, list)):
        return type(template), tuple(key_of(item) for item in template)
    return type(template), repr(template)  # repr: a slice has no hash in Python 3.11, and NaN equals itself


def _copied(container: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(container, Mapping):
        return type(container)((name, change(item)) for name, item in container.items())  # type: ignore[call-arg]
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return type(container)(*(change(item) for item in container))
    if type(container) in (tuple, list):
        return type(container)([change(item) for item in container])
    return tuple(change(item) for item in container)  # a Size
