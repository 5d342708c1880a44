"""Nodes of the tape: who made a value, from what, and what was saved to differentiate it."""

from __future__ import annotations

import itertools
import weakref

import numpy as np

from ..errors import GraphError
from . import anomaly

_sequence = itertools.count()


class VersionCounter:
    """Counts in-place changes of one piece of memory; a tensor and its views share one."""

    value = 0
    guarded = False  # whether the memory is a leaf's that requires grad and has been used
    rebased = 0  # the version at the last in-place change that the tape recorded

    def bump(self) -> None:
        self.value += 1


class Node:
    """One recorded operation, and the ``ctx`` that its forward and backward see.

    ``edges`` holds, per positional input, ``(node, output index)`` or None. Edges point from a result to
    what it was made from, so a graph has no reference cycle and dies with the tensors that hold it.
    """

    hooks: dict | None = None  # {output index: [hook]}
    saved: dict | None = None
    stale_checks: list | tuple = ()
    freed = False
    materialize_grads = True  # whether an output without a gradient is handed to backward as zeros
    outputs: tuple = ()  # (shape, dtype) of each output

    def __init__(self, operation, edges):
        self.operation = operation
        self.edges = edges
        self.sequence = next(_sequence)

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """Which positional inputs want a gradient."""
        return tuple([edge is not None for edge in self.edges])

    def save(self, **values) -> None:
        """Names what backward needs. Arrays that belong to a tensor are watched for in-place changes."""
        self.saved = values
        self.__dict__.update(values)

    def watch(self, tensors) -> None:
        """Remembers the versions of the saved arrays that belong to ``tensors`` (inputs or outputs)."""
        checks = []
        for name, value in (self.saved or {}).items():
            if not isinstance(value, np.ndarray):
                continue
            for tensor in tensors:
                if tensor is not None and _same_memory(value, tensor._array):
                    counter = tensor._version_counter
                    checks.append((name, counter, counter.value, value.shape))
                    break
        self.stale_checks = checks
        if anomaly.is_enabled():
            anomaly.fingerprint(self)

    def keep_copy_of(self, array: np.ndarray) -> None:
        """An operation in place needs its input as it was: a copy of it is saved instead."""
        for name, value in (self.saved or {}).items():
            if value is array:
                self.save(**{**(self.saved or {}), name: value.copy()})

    def check_saved(self) -> None:
        """Raises GraphError if a saved value was changed in place since forward."""
        for name, counter, version, shape in self.stale_checks:
            if counter.value != version:
                raise GraphError(
                    f"{self.name}: the value '{name}' of shape {list(shape)}, needed for its gradient, was modified "
                    f"in place after {self.name} ran (it is at version {counter.value}, expected version {version})"
                )
        if anomaly.FINGERPRINTS in self.__dict__:
            anomaly.check_fingerprint(self)

    def free(self) -> None:
        """Drops what was saved and the way down, so memory returns at once and a second pass is refused."""
        if self.saved is not None:
            for name in self.saved:
                del self.__dict__[name]
            self.saved = None
            self.stale_checks = ()
        self.edges = ()
        self.freed = True

    @property
    def name(self) -> str:
        """torch's name of the operation."""
        return self.operation.name

    def add_hook(self, index: int, hook) -> None:
        if self.hooks is None:
            self.hooks = {}
        self.hooks.setdefault(index, []).append(hook)

    # torch's way of walking the graph

    @property
    def next_functions(self):
        """``((node, output index) or (None, 0), ...)`` per input, as torch's ``grad_fn.next_functions``."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    def __repr__(self) -> str:
        return f"<{type(self).__name__ if isinstance(self, Leaf) else self.name} node>"


class Leaf(Node):
    """The end of the tape at a tensor that requires grad: adds what arrives to ``tensor.grad``."""

    def __init__(self, tensor):
        super().__init__(_AccumulateGrad, ())
        self.tensor = weakref.ref(tensor)
        self.outputs = ((tensor._array.shape, tensor._array.dtype),)


class _AccumulateGrad:
    name = "AccumulateGrad"


def _same_memory(saved: np.ndarray, owned: np.ndarray) -> bool:
    if saved is owned:
        return True
    return (saved.base is not None or owned.base is not None) and np.may_share_memory(saved, owned)
