"""Who looks on while operations run, per thread: `tinynet.fuse` writes down what a model does, recorded or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Observer(Protocol):
    """Gets every operation of its thread, with the Tensors it read and made."""

    def applied(self, operation: Any, inputs: tuple[Any, ...], settings: dict[str, Any], outputs: Any) -> None:
        """An operation has made new tensors."""

    def changing(self, target: Any) -> None:
        """An operation in place is about to change ``target``."""

    def changed(self, operation: Any, inputs: tuple[Any, ...], settings: dict[str, Any], written: bool) -> None:
        """It has changed ``inputs[0]``; with ``written`` its forward wrote there itself."""


class _State(threading.local):
    observer: Observer | None = None


state = _State()


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Shows every operation of this thread to ``observer``; nobody else looks on meanwhile."""
    before, state.observer = state.observer, observer
    try:
        yield
    finally:
        state.observer = before
