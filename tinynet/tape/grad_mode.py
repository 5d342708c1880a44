"""Whether operations are recorded, per thread. Source: torch.no_grad, torch.enable_grad."""

from __future__ import annotations

import functools
import threading


class _State(threading.local):
    enabled = True


state = _State()


def is_grad_enabled() -> bool:
    """Whether operations of this thread are being recorded."""
    return state.enabled


class _Switch:
    """A context manager and decorator that sets the grad mode of the thread and puts it back."""

    mode: bool

    def __init__(self):
        self._previous: list[bool] = []

    def __enter__(self):
        self._previous.append(state.enabled)
        state.enabled = self.mode

    def __exit__(self, *_):
        state.enabled = self._previous.pop()

    def __call__(self, function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with set_grad_enabled(self.mode):
                return function(*args, **kwargs)

        return wrapper


class no_grad(_Switch):
    """Nothing is recorded inside: ``with no_grad(): ...`` or ``@no_grad()``."""

    mode = False

    def __new__(cls, function=None):
        """Also as a bare decorator: ``@no_grad`` above a function."""
        switch = super().__new__(cls)
        if function is None:
            return switch
        _Switch.__init__(switch)
        return switch(function)


class enable_grad(no_grad):
    """Recording is on inside, also within ``no_grad``."""

    mode = True


class set_grad_enabled(_Switch):
    """Sets the mode at once, and puts it back when used as a context manager."""

    def __init__(self, mode: bool):
        super().__init__()
        self.mode = bool(mode)
        self._before = state.enabled
        state.enabled = self.mode

    def __enter__(self):
        self._previous.append(self._before)
        state.enabled = self.mode

    def __call__(self, function):
        state.enabled = self._before
        return super().__call__(function)


inference_mode = no_grad
