"""The tape (floor 1): operations over arrays, the nodes they leave behind, and the way back."""

from . import anomaly
from .backward import backward, running_pass
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .node import Leaf, Node, VersionCounter
from .operation import DISCARD, Operation
from .record import check_current, edge_of, record

__all__ = [
    "DISCARD",
    "Leaf",
    "Node",
    "Operation",
    "VersionCounter",
    "anomaly",
    "backward",
    "check_current",
    "edge_of",
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "record",
    "running_pass",
    "set_grad_enabled",
]
