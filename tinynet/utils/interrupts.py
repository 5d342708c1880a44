"""Ctrl-C inside of code that swallows it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """A Ctrl-C inside of the block acts at once, as ever; if the block swallows it, it is raised when the block ends.

    For libraries with a bare `except:`. Outside of the main thread, which alone gets signals, and where SIGINT is
    ignored, nothing is done.

    Raises:
        KeyboardInterrupt: at the end, if one came and did not leave the block.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        before(number, frame)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
