"""Recording: turns one call of an operation into a node of the tape."""

from __future__ import annotations

from typing import NoReturn

from ..errors import GraphError
from . import anomaly
from .node import Leaf, Node


def edge_of(tensor):
    """``(node, output index)`` of where a tensor's gradient goes, or None if it needs none."""
    if tensor is None or not tensor._requires_grad:
        return None
    if tensor._node is not None:
        return tensor._node, tensor._index
    leaf = tensor._leaf
    if leaf is None:
        leaf = tensor._leaf = Leaf(tensor)
        tensor._version_counter.guarded = True
    return leaf, 0


def check_current(tensor, name: str) -> None:
    """Refuses a tensor whose memory was changed, on the tape, through another tensor that shares it."""
    if tensor._seen_rebase != tensor._version_counter.rebased:
        _refuse_outdated(tensor, name)


def _refuse_outdated(tensor, name: str) -> NoReturn:
    raise GraphError(
        f"{name}: this tensor of shape {list(tensor._array.shape)} shares memory with one that was changed in "
        "place by a recorded operation, so its own history is out of date; take the view again after the change"
    )


def record(operation, tensors) -> Node | None:
    """A node whose edges lead to ``tensors`` (None where an input is missing), or None if no gradient is wanted."""
    edges: list = []
    wanted = False
    for tensor in tensors:
        if tensor is None:
            edges.append(None)
            continue
        if tensor._seen_rebase != tensor._version_counter.rebased:
            _refuse_outdated(tensor, operation.name)
        if not tensor._requires_grad:
            edges.append(None)
            continue
        wanted = True
        edges.append(edge_of(tensor) if tensor._node is None else (tensor._node, tensor._index))
    if not wanted:
        return None
    node = Node(operation, tuple(edges))
    if anomaly.state.enabled:
        anomaly.remember_traceback(node)
    return node
