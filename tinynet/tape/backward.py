"""The backward pass: from results to leaves, newest node first, without recursion.

A node's sequence number is larger than that of everything it was made from, so descending numbers are a
topological order: when a node's turn comes, all its gradient has arrived. Leaves are older than the graph;
they are finished as soon as the last of their gradients is in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import repeat
from operator import attrgetter

import numpy as np

from ..errors import GraphError
from ..kernels.addition import add
from ..kernels.memory import is_whole
from . import anomaly
from .node import Leaf, Node


class _Arriving:
    """The gradients that have reached one node so far, one place per output.

    ``owned`` says whether an array is ours alone, so that adding to it changes nobody else's.
    """

    __slots__ = ("arrays", "owned")

    def __init__(self, outputs: int):
        self.arrays: list = [None] * outputs
        self.owned = [False] * outputs

    def add(self, index: int, array: np.ndarray, owned: bool) -> None:
        present = self.arrays[index]
        if present is None:
            self.arrays[index] = array
            self.owned[index] = owned
        elif self.owned[index] and present.strides == array.strides:
            np.add(present, array, out=present)
        elif owned and present.strides == array.strides:
            self.arrays[index], self.owned[index] = np.add(present, array, out=array), True
        else:
            self.arrays[index] = np.asarray(add(present, array))
            self.owned[index] = True


class Pass:
    """A backward pass that is running, for hooks that have something to do when every gradient is there.

    ``endings`` are called then, before the gradients are added to ``.grad``. ``accumulates`` is False for
    ``autograd.grad``, which adds none.
    """

    def __init__(self, accumulates: bool):
        self.accumulates = accumulates
        self.endings: list[Callable[[], None]] = []


class _Running(threading.local):
    now: Pass | None = None


_running = _Running()


def running_pass() -> Pass | None:
    """The pass that calls the hook that asks (the innermost, where one runs inside of another)."""
    return _running.now


def backward(roots, retain_graph: bool = False, targets=()):
    """Carries gradients from ``roots``, a list of ``(node, output index, gradient array)``, down the tape.

    Returns ``(leaves, captured)``: for each leaf reached ``(leaf, array, owned)``, for each target
    ``(node, output index)`` its gradient array or None. It adds nothing to ``.grad`` itself, so that an error
    in the middle leaves every gradient as it was. Unless ``retain_graph``, each node is freed once used.
    """
    outer, _running.now = _running.now, Pass(accumulates=not targets)
    try:
        results = _carry(roots, retain_graph, targets)
        for ending in _running.now.endings:
            ending()
        return results
    finally:
        _running.now = outer


@np.errstate(all="ignore")  # inf and NaN are values, as in torch
def _carry(roots, retain_graph: bool, targets):
    order, leaf_uses = _reachable([node for node, _, _ in roots])
    arriving: dict[Node, _Arriving] = {}
    captured: dict[tuple[Node, int], np.ndarray] = {}
    finished: list[tuple[Leaf, np.ndarray, bool]] = []
    wanted: dict[Node, list[int]] = {}
    for node, index in targets:
        wanted.setdefault(node, []).append(index)

    def deliver(node: Node, index: int, array: np.ndarray, owned: bool) -> None:
        places = arriving.get(node)
        if places is None:
            places = arriving[node] = _Arriving(len(node.outputs))
        places.add(index, array, owned)

    def finish_leaf(leaf: Leaf) -> None:
        places = arriving.pop(leaf, None)
        if places is not None:
            _run_hooks(leaf, places)
            _capture(leaf, places, wanted, captured)
            finished.append((leaf, places.arrays[0], places.owned[0]))

    for node, index, gradient in roots:
        deliver(node, index, gradient, False)
        if isinstance(node, Leaf):
            leaf_uses[node] = leaf_uses.get(node, 0)
            if leaf_uses[node] == 0:
                finish_leaf(node)
    while order:
        node = order.pop()
        places = arriving.pop(node, None)
        if places is None:
            gradients = repeat(None)  # nothing arrived, but the leaves below must be counted
        else:
            if node.hooks is not None:
                _run_hooks(node, places)
            if wanted:
                _capture(node, places, wanted, captured)
            gradients = _call_backward(node, places.arrays)
        for edge, gradient in zip(node.edges, gradients):
            if edge is None:
                continue
            parent, index = edge
            if gradient is not None:
                deliver(parent, index, *gradient)
            if parent in leaf_uses:
                leaf_uses[parent] -= 1
                if leaf_uses[parent] == 0:
                    finish_leaf(parent)
        if not retain_graph:
            node.free()
    return finished, captured


def _reachable(roots) -> tuple[list[Node], dict[Leaf, int]]:
    """All inner nodes below ``roots``, oldest first, and how often each leaf is used. Refuses a freed graph."""
    seen: set[Node] = set()
    leaf_uses: dict[Leaf, int] = {}
    stack = [node for node in roots if not isinstance(node, Leaf)]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.freed:
            raise GraphError(
                f"{node.name}: the graph was freed by an earlier backward pass; to go through it twice, "
                "call backward(retain_graph=True) the first time"
            )
        if node.saved is not None:
            node.check_saved()
        for edge in node.edges:
            if edge is not None:
                parent = edge[0]
                if isinstance(parent, Leaf):
                    leaf_uses[parent] = leaf_uses.get(parent, 0) + 1
                elif parent not in seen:
                    stack.append(parent)
    return sorted(seen, key=attrgetter("sequence")), leaf_uses


def _run_hooks(node: Node, places: _Arriving) -> None:
    if not node.hooks:
        return
    for index, hooks in node.hooks.items():
        for hook in list(hooks):
            if places.arrays[index] is not None:
                replaced = hook(places.arrays[index])
                places.owned[index] = False  # the hook may have kept it
                if replaced is not None:
                    places.arrays[index] = replaced


def _capture(node: Node, places: _Arriving, wanted, captured) -> None:
    for index in wanted.get(node, ()):
        if places.arrays[index] is not None:
            captured[node, index] = places.arrays[index].copy()


def _call_backward(node: Node, arrays):
    """The gradients of a node's inputs as ``(array, owned)`` or None, checked against shape and dtype."""
    if node.materialize_grads:
        for index, array in enumerate(arrays):
            if array is None:
                arrays[index] = np.zeros(*node.outputs[index])
    results = node.operation.backward(node, *arrays)
    if not isinstance(results, tuple):
        results = (results,)
    if len(results) != len(node.edges):
        raise GraphError(
            f"{node.name}: backward returned {len(results)} gradients for {len(node.edges)} inputs"
        )
    if anomaly.state.enabled:
        anomaly.check_gradients(node, results)
    checked: list[tuple[np.ndarray, bool] | None] = []
    for edge, array in zip(node.edges, results):
        if edge is None or array is None:
            checked.append(None)
            continue
        shape, dtype = edge[0].outputs[edge[1]]
        array = np.asarray(array)
        if array.shape != shape:
            raise GraphError(
                f"{node.name}: backward returned a gradient of shape {list(array.shape)} for input {len(checked)}, "
                f"which has shape {list(shape)}"
            )
        if array.dtype != dtype:
            checked.append((array.astype(dtype), True))
        else:
            checked.append((array, _is_fresh(array, arrays, results)))
    return checked


def _is_fresh(array: np.ndarray, incoming, results) -> bool:
    """Whether nobody else holds ``array``: it is all of its memory and was returned once (see Operation)."""
    for other in incoming:
        if other is array:
            return False
    if not is_whole(array) or not array.flags.writeable:
        return False
    return len(results) == 1 or sum([array is other for other in results]) == 1
