"""Ctrl-C inside of code that swallows it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_came = False  # since the outermost block began
_inside = False


@contextlib.contextmanager
def interrupts_kept() -> Iterator[Callable[[], None]]:
    """A Ctrl-C inside of the block acts at once, as ever; if something swallows it, it is raised when the block ends.

    A bare `except:` in a library swallows it, and so does Python itself where it comes up in a finalizer. Yields a
    function to be called now and then, which raises it before the end, also what was swallowed in a block around
    this one. Outside of the main thread, which alone gets signals, and where SIGINT is ignored, nothing is done.

    Raises:
        KeyboardInterrupt: at the end, if one came and did not leave the block.
    """
    global _came, _inside
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None
        return
    if _inside:
        yield _check
        _check()
        return

    def remember(number: int, frame: FrameType | None) -> None:
        global _came
        _came = True
        before(number, frame)

    _came, _inside = False, True
    signal.signal(signal.SIGINT, remember)
    try:
        yield _check
        _check()
    finally:
        signal.signal(signal.SIGINT, before)
        _came = _inside = False


def _check() -> None:
    if _came:
        raise KeyboardInterrupt
