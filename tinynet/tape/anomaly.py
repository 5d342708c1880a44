"""Anomaly mode: where a NaN gradient was born, and who wrote into a saved array behind the tape's back."""

from __future__ import annotations

import threading
import traceback
import zlib

import numpy as np

from ..errors import GraphError

FINGERPRINTS = "_fingerprints"
TRACEBACK = "_traceback"


class _State(threading.local):
    enabled = False
    check_nan = True


state = _State()


def is_enabled() -> bool:
    return state.enabled


def remember_traceback(node) -> None:
    """Keeps the stack of the forward call, to be shown if its gradient goes wrong."""
    setattr(node, TRACEBACK, "".join(traceback.format_stack(limit=12)[:-2]))


def fingerprint(node) -> None:
    """Keeps a checksum of every saved array (a NumPy alias changes no version counter)."""
    arrays = {name: value for name, value in node.saved.items() if isinstance(value, np.ndarray)}
    setattr(node, FINGERPRINTS, {name: _checksum(value) for name, value in arrays.items()})


def check_fingerprint(node) -> None:
    """Raises GraphError if a saved array is no longer what it was in forward."""
    for name, checksum in getattr(node, FINGERPRINTS).items():
        value = getattr(node, name)
        if _checksum(value) != checksum:
            raise GraphError(
                f"{node.name}: the array '{name}' of shape {list(value.shape)}, needed for its gradient, was "
                f"changed after {node.name} ran, by code that the tape did not see (a NumPy alias?)"
                + forward_stack(node)
            )


def check_gradients(node, gradients) -> None:
    """Raises GraphError if a gradient that ``node`` returned holds a NaN."""
    if not state.check_nan:
        return
    for index, gradient in enumerate(gradients):
        if gradient is not None and np.isnan(gradient).any():
            raise GraphError(
                f"{node.name}: its backward returned nan values in its {index}th output" + forward_stack(node)
            )


def forward_stack(node) -> str:
    stack = getattr(node, TRACEBACK, "")
    return f"\nThe forward call was:\n{stack}" if stack else ""


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes()) if array.size else 0
