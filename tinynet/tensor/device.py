"""torch.Size, torch.device and the handle of a hook."""

from __future__ import annotations

import math


class Size(tuple):
    """A tensor's shape: a tuple of ints. Source: torch.Size."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"tinynet.Size({list(self)})"

    def __add__(self, other):
        return Size(tuple(self) + tuple(other))


class device:
    """Where a tensor lives: always the CPU. Source: torch.device."""

    __slots__ = ("index", "type")

    def __init__(self, name="cpu"):
        name = getattr(name, "type", name)
        if name not in ("cpu", "cpu:0"):
            raise RuntimeError(f"device {name!r} is not available: tinynet computes on the cpu")
        self.type, self.index = "cpu", None

    def __eq__(self, other) -> bool:
        return isinstance(other, device) or other == "cpu"

    def __hash__(self) -> int:
        return hash("cpu")

    def __str__(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"


CPU = device()


class RemovableHandle:
    """Takes a hook out again: ``handle.remove()``, or at the end of a ``with`` block."""

    def __init__(self, hooks: list, hook):
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        self._hooks[:] = [hook for hook in self._hooks if hook is not self._hook]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()
