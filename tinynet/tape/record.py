"""Recording: turns one call of an operation into a node of the tape."""

from __future__ import annotations

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
        raise GraphError(
            f"{name}: this tensor of shape {list(tensor._array.shape)} shares memory with one that was changed in "
            "place by a recorded operation, so its own history is out of date; take the view again after the change"
        )


def new_node(operation, tensors) -> Node:
    """A node whose edges lead to ``tensors`` (None where an input is missing)."""
    edges = tuple([edge_of(tensor) for tensor in tensors])
    node = Node(operation, edges, tuple([edge is not None for edge in edges]))
    if anomaly.state.enabled:
        anomaly.remember_traceback(node)
    return node
