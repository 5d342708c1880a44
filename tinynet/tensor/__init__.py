"""Tensor (floor 3): arrays with a place on the tape, under torch's method names."""

from .apply import apply, apply_inplace, share_version, where
from .core import Tensor
from .device import RemovableHandle, Size, device
from .differentiate import backward_from, refuse_create_graph, root_gradients
from .layout import exposed
from .shapes import sizes_of
from .variable import as_array, as_tensor, derived, seen_gradient, wrap

__all__ = [
    "RemovableHandle",
    "Size",
    "Tensor",
    "apply",
    "apply_inplace",
    "as_array",
    "as_tensor",
    "backward_from",
    "derived",
    "device",
    "exposed",
    "refuse_create_graph",
    "root_gradients",
    "seen_gradient",
    "share_version",
    "sizes_of",
    "where",
    "wrap",
]
