"""Tensor (floor 3): arrays with a place on the tape, under torch's method names."""

from .apply import apply, apply_inplace, share_version, where
from .core import Tensor
from .device import RemovableHandle, Size, device
from .differentiate import backward_from, refuse_create_graph, root_gradients
from .shapes import sizes_of
from .variable import as_array, as_tensor, wrap

__all__ = [
    "RemovableHandle",
    "Size",
    "Tensor",
    "apply",
    "apply_inplace",
    "as_array",
    "as_tensor",
    "backward_from",
    "device",
    "refuse_create_graph",
    "root_gradients",
    "share_version",
    "sizes_of",
    "where",
    "wrap",
]
