"""Where a result's numbers lie in memory, and how that stays a secret.

Kernels return activations of shape (N, C, H, W) with the channels last in memory, where torch's are contiguous.
So such a Tensor is marked (``_hidden``): to the outside it counts as contiguous. Elementwise operations pass the
order on (NumPy keeps it), the next kernel finds it as it likes it, and nobody ever pays for moving anything,
unless somebody looks: whoever shows or shares the memory (``numpy()``, ``detach()``, a view) calls `exposed`
first, which puts a C-contiguous copy in the array's place, once.

That is safe because no other Tensor and no NumPy array shares the memory of a hidden one: all ways to share it
lead through `exposed`. What the tape saved may be the old array. It holds the same values, nobody can reach it
to change it, and changes of the new one are still counted by the Tensor's version counter.

A permuted order that is the user's own is not hidden: ``x.permute(0, 2, 3, 1) + 1`` is not contiguous in torch
either, nor is the convolution of an input that is channels-last. So a result is hidden unless one of its inputs
openly has its axes in the same order.
"""

from __future__ import annotations

import threading

import numpy as np

from ..kernels.layout import axis_order, row_major

_lock = threading.Lock()


def hide_layout(tensor, sources) -> None:
    """Marks ``tensor``, computed from the Tensors ``sources`` (or None), if its memory is not row-major."""
    array = tensor._array
    if array.flags.c_contiguous and (array.base is None or 1 not in array.shape):
        return
    for source in sources:
        if source is not None and not source._hidden and _openly_in_order(source._array, array):
            return
    tensor._hidden = True


def _openly_in_order(source: np.ndarray, array: np.ndarray) -> bool:
    """Whether ``array`` has its permuted order from ``source``."""
    if source.flags.c_contiguous or source.ndim != array.ndim or 0 in source.strides:
        return False
    return axis_order(source) == axis_order(array)


def exposed(tensor) -> np.ndarray:
    """The Tensor's array, to be shown or shared: from now on in the order that torch's would have."""
    if tensor._hidden:
        with _lock:
            if tensor._hidden:
                array = tensor._array
                # sizes of 1 may have odd strides in a contiguous array: that needs new strides, but no copy
                contiguous = array.flags.c_contiguous
                tensor._array = array.reshape(-1).reshape(array.shape) if contiguous else row_major(array)
                tensor._hidden = False
    return tensor._array
