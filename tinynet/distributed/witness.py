"""Says which rank of this host died without a word. Who is killed cannot say so, and the launcher names no ranks.

A program of its own that imports nothing of tinynet, as the launcher may kill all ranks within a millisecond:

    python -I -S witness.py FOLDER SIZE RANK:PROCESS [RANK:PROCESS ...]

FOLDER has a named pipe for each rank, which holds it open; a file called RANK for each that ended in order; and SPOKEN
once one has said why it ends the job. What LAST_WORDS holds is added to the message. The folder is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SPOKEN = "spoken"
LAST_WORDS = "last_words"
PIPE = "pipe-{}"
_NAP_SECONDS = 0.05


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
    told = _told(folder, processes) if hasattr(select, "epoll") and hasattr(os, "pidfd_open") else None
    yield from _looked_after(processes) if told is None else told


def _told(folder: Path, processes: dict[int, int]) -> Iterator[int] | None:
    """By the kernel (Linux), whose queue keeps the order however late it is read. None where it will not.

    A dying rank lets go of its pipe at the same moment as of the launcher, which then kills the others; that its
    process has ended is told later, when they may have ended, too. A child that holds the pipe does not hold this.
    """
    ranks: dict[int, int] = {}
    queue = select.epoll()
    try:
        for rank, process in processes.items():
            pipe = os.open(folder / PIPE.format(rank), os.O_RDONLY | os.O_NONBLOCK)
            for descriptor in (pipe, os.pidfd_open(process)):
                ranks[descriptor] = rank
                queue.register(descriptor, select.EPOLLIN)
    except OSError:
        return None

    def ended() -> Iterator[int]:
        left = set(processes)
        while left:
            for descriptor, _ in queue.poll():
                queue.unregister(descriptor)
                if ranks[descriptor] in left:
                    left.remove(ranks[descriptor])
                    yield ranks[descriptor]

    return ended()


def _looked_after(processes: dict[int, int]) -> Iterator[int]:
    """By looking every now and then."""
    left = dict(processes)
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
