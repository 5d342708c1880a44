"""A failure inside Numba as one plain line in a notebook, with the traceback on request."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tinynet.kernels.launch import numba_problem


def shell() -> Any:
    """The running notebook's IPython shell, or None in plain Python."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def shorten() -> None:
    """From now on a Numba error in a cell of this notebook is one line; `%tb` shows all of it."""
    running = shell()
    if running is None or numba_problem() is not None:
        return
    from numba.core.errors import NumbaError

    running.set_custom_exc((NumbaError,), _show)


def _show(running: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None) -> None:
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace  # what %tb shows
    running._showtraceback(kind, error, [one_line(error)])


def one_line(error: BaseException) -> str:
    """The reason in one line: Numba's own first one that says anything."""
    lines = (line.strip() for line in str(error).splitlines())
    reason = next((line for line in lines if line and not line.startswith("Failed in")), type(error).__name__)
    return f"Numba could not compile this: {reason} (%tb shows the details)"
