"""How much memory this process holds, and held at most."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Peak:
    """From its making on: how much more memory was resident at most than at that moment.

    Linux counts exactly; elsewhere only growth beyond the process's earlier peak is seen.
    """

    def __init__(self) -> None:
        _give_back()
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")  # the high-water mark starts anew
        self.level = _resident() if _STATUS.exists() else _highest()

    def bytes(self) -> int:
        """The largest growth so far."""
        return max(0, _highest() - self.level)


def _give_back() -> None:
    """Frees what Python and the C library only keep for later."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    return _status("VmRSS")


def _highest() -> int:
    if _STATUS.exists():
        return _status("VmHWM")
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _status(field: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
