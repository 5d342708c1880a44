"""Collectives over arrays: MPI's for several ranks, nothing to do for one.

All of them are started without blocking and then waited for in Python: a rank that waits for another sees Ctrl-C,
and yields its core where there are more ranks than cores (MPI's own waiting does neither).
"""

from __future__ import annotations

import os
import time
from typing import Any, Protocol

import numpy as np

_SPIN_SECONDS = 1e-4  # of yielding the core only; then the waiting rank sleeps between two looks
_NAP_SECONDS = 2e-5


class Request(Protocol):
    """A collective that is under way."""

    def Test(self) -> bool:
        """Lets it move on; whether it is finished."""


class _Finished:
    def Test(self) -> bool:
        return True


def wait(request: Request) -> None:
    """Returns when the collective is finished here. Raises KeyboardInterrupt."""
    if request.Test():
        return
    pause = getattr(os, "sched_yield", lambda: time.sleep(0))
    spin_until = time.monotonic() + _SPIN_SECONDS
    while not request.Test():
        if time.monotonic() < spin_until:
            pause()
        else:
            time.sleep(_NAP_SECONDS)


class Communicator:
    """Some ranks that may talk to each other; `comm` is mpi4py's, None for one rank alone.

    Arrays are C-contiguous. What is started must be started in the same order on every rank; those who cannot
    promise that about each other (batch norms and gradient buckets) use `duplicate`s.
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()

    def duplicate(self) -> Communicator:
        """The same ranks with an order of their own. Every rank calls it."""
        return self if self.comm is None else Communicator(self.comm.Dup())

    def start_all_reduce(self, array: np.ndarray, op: str = "SUM") -> Request:
        """Replaces `array` by the "SUM", "PROD", "MIN" or "MAX" over the ranks; it must live until then."""
        if self.comm is None:
            return _Finished()
        from mpi4py import MPI

        return self.comm.Iallreduce(MPI.IN_PLACE, array, getattr(MPI, op))

    def start_broadcast(self, array: np.ndarray, source: int) -> Request:
        """Replaces `array` by that of the rank `source`."""
        return _Finished() if self.comm is None else self.comm.Ibcast(array, source)

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Every rank's array, (ranks, ...), in the order of the ranks."""
        array = np.asarray(array, order="C")
        if self.comm is None:
            return array[None].copy()
        everyone = np.empty((self.size, *array.shape), array.dtype)
        wait(self.comm.Iallgather(array, everyone))
        return everyone

    def broadcast_bytes(self, message: bytes, source: int) -> bytes:
        """The message of the rank `source`; what the others pass does not matter."""
        length = np.array(len(message), np.int64)
        wait(self.start_broadcast(length, source))
        data = np.frombuffer(message, np.uint8).copy() if self.rank == source else np.empty(int(length), np.uint8)
        wait(self.start_broadcast(data, source))
        return data.tobytes()

    def gather_bytes(self, message: bytes) -> list[bytes]:
        """Every rank's message, in the order of the ranks."""
        lengths = self.gather(np.array(len(message), np.int64))
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(message)] = np.frombuffer(message, np.uint8)
        return [row[:length].tobytes() for row, length in zip(self.gather(padded), lengths)]

    def barrier(self) -> None:
        """Returns when every rank has come here."""
        if self.comm is not None:
            wait(self.comm.Ibarrier())
