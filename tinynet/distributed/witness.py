"""Says which rank of this host died without a word. Who is killed cannot say so, and the launcher names no ranks.

A program of its own that imports nothing of tinynet, as the launcher may kill all ranks within a millisecond:

    python -I -S witness.py FOLDER SIZE RANK:PROCESS [RANK:PROCESS ...]

FOLDER has LOCKS, with a lock that each rank holds, in the order of the arguments; a file called RANK for each that
ended in order; and SPOKEN once one has said why it ends the job. What LAST_WORDS holds is added to the message. The
folder is removed at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import queue
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SPOKEN = "spoken"
LAST_WORDS = "last_words"
LOCKS = "locks"
LOCK_BYTES = 128  # more than a pthread_mutex_t anywhere
_NAP_SECONDS = 0.05
_PROCESS_SHARED = _ROBUST = 1


class Locks:
    """Robust mutexes in a file that several processes map (POSIX). Raises OSError where there are none.

    When the holder of one dies, the kernel says so to whoever waits for it, before anything else of the process is
    taken down: before the launcher can notice and kill the other ranks. So the first lock to fall names the culprit.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._library = ctypes.CDLL(None)
        if not hasattr(self._library, "pthread_mutexattr_setrobust"):
            raise OSError("no robust mutexes here")
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), count * LOCK_BYTES)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    @staticmethod
    def make(path: Path, count: int) -> None:
        """The file."""
        path.write_bytes(bytes(count * LOCK_BYTES))

    def hold(self, place: int) -> None:
        """Takes a lock for as long as this thread lives. Raises OSError."""
        attributes = ctypes.create_string_buffer(LOCK_BYTES)
        library, lock = self._library, ctypes.c_void_p(self._start + place * LOCK_BYTES)
        failed = (
            library.pthread_mutexattr_init(attributes)
            or library.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED)
            or library.pthread_mutexattr_setrobust(attributes, _ROBUST)
            or library.pthread_mutex_init(lock, attributes)
            or library.pthread_mutex_lock(lock)
        )
        if failed:
            raise OSError(failed, os.strerror(failed))

    def release(self, place: int) -> None:
        """Gives one's lock back: before the memory goes, in which the kernel would look for it."""
        self._library.pthread_mutex_unlock(ctypes.c_void_p(self._start + place * LOCK_BYTES))

    def wait(self, place: int) -> None:
        """Returns when the holder has died, or has given it back."""
        self._library.pthread_mutex_lock(ctypes.c_void_p(self._start + place * LOCK_BYTES))


def main(folder: Path, size: int, processes: dict[int, int]) -> None:
    """Waits for the first rank that dies without having ended, and speaks; silent if all end in order."""
    try:
        for rank in _as_they_end(folder, processes):
            if (folder / SPOKEN).exists():
                return
            if not (folder / str(rank)).exists():
                _speak(folder, size, rank, processes[rank])
                return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _speak(folder: Path, size: int, rank: int, process: int) -> None:
    words = ""
    with contextlib.suppress(OSError):
        words = (folder / LAST_WORDS).read_text(encoding="utf-8")
    print(
        f"tinynet: rank {rank} of {size} on {platform.node()} (process {process}) died without a word, as after "
        f"kill -9 or when memory is short; the job ends with it{f'; {words}' if words else ''}",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _as_they_end(folder: Path, processes: dict[int, int]) -> Iterator[int]:
    """The ranks, in the order in which their processes end."""
    try:
        locks = Locks(folder / LOCKS, len(processes))
    except OSError:
        yield from _looked_after(processes)
        return
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def wait(place: int, rank: int) -> None:
        locks.wait(place)
        ended.put(rank)

    for place, rank in enumerate(processes):
        threading.Thread(target=wait, args=(place, rank), daemon=True).start()
    _ready()
    for _ in processes:
        yield ended.get()


def _ready() -> None:
    print("ready", flush=True)


def _looked_after(processes: dict[int, int]) -> Iterator[int]:
    """By looking every now and then."""
    left = dict(processes)
    _ready()
    while left:
        for rank, process in list(left.items()):
            try:
                os.kill(process, 0)
            except OSError:
                del left[rank]
                yield rank
        time.sleep(_NAP_SECONDS)


if __name__ == "__main__":
    _pairs = (pair.split(":") for pair in sys.argv[3:])
    main(Path(sys.argv[1]), int(sys.argv[2]), {int(rank): int(process) for rank, process in _pairs})
    sys.stderr.flush()
    os._exit(0)  # threads that still wait are no reason to stay
