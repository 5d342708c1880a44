"""Which results share memory: a value's bytes are free again once the last step that reads it has run.

One block of memory, the arena, holds what the steps write. Every value gets an offset in it such that no two
values that live at the same time overlap: the largest first, each at the lowest offset that is free during its
whole life (the "greedy by size" of Pisarchyk and Lee 2020, arXiv 2001.03288). A sum may take the place of its
residual, which is read for the last time while the sum is written. What the caller gets never lies in the arena:
it is written to new memory, or copied if it is a view.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tinynet.fusion.steps import Step
from tinynet.fusion.trace import Constant, Value

ALIGNMENT = 64  # bytes of a cache line and of the widest vector


@dataclass(eq=False)
class Storage:
    """Bytes that are written at step `first` and read until step `last`."""

    nbytes: int
    first: int
    last: int
    kept: bool = False  # the caller gets it, so it is made anew at every call
    of_input: bool = False
    into: Storage | None = None  # the storage that it continues in
    offset: int = -1

    def root(self) -> Storage:
        return self if self.into is None else self.into.root()


class Memory:
    """Offsets in an arena of `nbytes` for the values that planned steps write.

    `storage`: what is stored where; `views`: the values that share the memory of others.
    """

    def __init__(self, inputs: list[Value], steps: list[Step], outputs: list[Value | Constant]) -> None:
        self.storage: dict[Value, Storage] = {}  # of inputs and of what planned steps write
        self.views: set[Value] = set()
        self._shown: dict[Value, set[Storage]] = {}  # a view may show any of its inputs' storages
        for value in inputs:
            self._store(value, Storage(0, -1, -1, of_input=True))
        for number, step in enumerate(steps):
            self._live(number, step)
        for output in outputs:
            if isinstance(output, Value) and self.is_own(output):
                self.storage[output].kept = True
            for storage in self.shown(output):
                storage.last = len(steps)
        for number, step in enumerate(steps):
            self._reuse(number, step)
        self.buffers = [s for s in self.storage.values() if not (s.kept or s.of_input or s.into)]
        self.nbytes = _place(self.buffers)

    def shown(self, operand: Value | Constant) -> set[Storage]:
        """The storages that the array of `operand` may show."""
        return self._shown.get(operand, set()) if isinstance(operand, Value) else set()

    def is_own(self, value: Value) -> bool:
        """Whether `value` was written to a storage of its own by a planned step."""
        return value in self.storage and not self.storage[value].of_input

    def offset(self, value: Value) -> int | None:
        """Where in the arena `value` is written; None if it is not."""
        written = self.is_own(value) and not self.storage[value].kept
        return self.storage[value].root().offset if written else None

    def _store(self, value: Value, storage: Storage) -> None:
        self.storage[value] = storage
        self._shown[value] = {storage}

    def _live(self, number: int, step: Step) -> None:
        read = set().union(*(self._shown[value] for value in step.reads))
        for storage in read:
            storage.last = number
        if step.planned:
            nbytes = int(np.prod(step.outputs[0].shape)) * step.outputs[0].dtype.itemsize
            self._store(step.outputs[0], Storage(nbytes, number, number))
            return
        for value in step.outputs:
            self._shown[value] = read if step.is_view else set()
            if step.is_view:
                self.views.add(value)

    def _reuse(self, number: int, step: Step) -> None:
        """Lets the step write over an input that ends here."""
        if not step.planned or step.overwritable not in self.storage:
            return
        old, new = self.storage[step.overwritable].root(), self.storage[step.outputs[0]]
        others = (storage.root() for value in step.reads if value is not step.overwritable
                  for storage in self._shown[value])  # fmt: skip
        if old.kept or old.of_input or new.kept or old.last != number or old.nbytes != new.nbytes or old in others:
            return
        new.into, old.last = old, new.last


def _place(storages: Iterable[Storage]) -> int:
    """Gives every storage its offset and returns the bytes of all."""
    placed: list[Storage] = []
    for storage in sorted(storages, key=lambda storage: (-storage.nbytes, storage.first)):
        beside = [other for other in placed if other.first <= storage.last and storage.first <= other.last]
        storage.offset = 0
        for other in sorted(beside, key=lambda other: other.offset):
            if other.offset - storage.offset >= storage.nbytes:
                break
            storage.offset = max(storage.offset, _aligned(other.offset + other.nbytes))
        placed.append(storage)
    return max((_aligned(storage.offset + storage.nbytes) for storage in placed), default=0)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Arena:
    """The memory of one running call."""

    def __init__(self, nbytes: int) -> None:
        block = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        self._block = block[start : start + nbytes]

    def array(self, value: Value, offset: int) -> np.ndarray:
        """An array for `value` (N, C, ...), channels last, at `offset`."""
        batch, channels, *size = value.shape
        count = int(np.prod(value.shape)) * value.dtype.itemsize
        array = self._block[offset : offset + count].view(value.dtype).reshape(batch, *size, channels)
        return np.moveaxis(array, -1, 1)
