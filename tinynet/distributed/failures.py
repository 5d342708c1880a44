"""One rank fails, the job ends: nobody waits for ever for a message that will not come, and all learn who it was."""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from . import witness
from .communicator import Communicator

_PRECEDENCE_SECONDS = 0.2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_hook_before: Callable[..., Any] | None = None
_notes: Path | None = None  # the folder that the witness of this host reads
_locks: witness.Locks | None = None  # by which the witness sees this process end
_caller = False  # whether this rank has called the witness


def abort(group: Communicator, message: str, code: int = 1) -> None:
    """Ends every rank of the job with this exit code, after the message with this rank's number and host.

    Often all ranks fail of the same thing, such as a wrong path: the lower ranks speak first, and what one says
    ends the others before they do.
    """
    time.sleep(_PRECEDENCE_SECONDS * min(group.rank, 4))
    _note(witness.SPOKEN)
    sys.stdout.flush()
    print(f"tinynet: rank {group.rank} of {group.size} on {platform.node()}: {message}", file=sys.stderr, flush=True)
    time.sleep(_PRECEDENCE_SECONDS / 2)  # the launcher reads it before it hears of the end
    group.comm.Abort(code)
    os._exit(code)


def watch(group: Communicator, neighbours: Communicator) -> None:
    """From here on an exception that nobody catches ends the job instead of this rank alone.

    A rank that is killed is named by its host's witness, a process beside the ranks (on POSIX systems);
    `neighbours` are the ranks of this host.
    """
    global _hook_before
    if _hook_before is not None:
        return
    _hook_before = before = sys.excepthook

    def end_the_job(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        code = INTERRUPTED if issubclass(kind, KeyboardInterrupt) else 1
        abort(group, f"ended by {kind.__name__}, and so the job with it", code)

    sys.excepthook = end_the_job
    if os.name == "posix" and _notes is None:
        _call_witness(group, neighbours)


def unwatch() -> None:
    """Undoes `watch`; the witness stays, as MPI's end is still to come."""
    global _hook_before
    if _hook_before is not None:
        sys.excepthook, _hook_before = _hook_before, None


def leave_words(words: str) -> None:
    """What the witness shall add if a rank is killed: how to go on. Raises OSError."""
    if _caller and _notes is not None and _notes.is_dir():
        new = _notes / f"{witness.LAST_WORDS}-new"
        new.write_text(words, encoding="utf-8")
        new.replace(_notes / witness.LAST_WORDS)  # the witness reads the old words or these


def _call_witness(group: Communicator, neighbours: Communicator) -> None:
    global _notes, _caller, _locks
    _caller = neighbours.rank == 0
    folder = ""
    if _caller:
        folder = tempfile.mkdtemp(prefix="tinynet-ranks-")
        witness.Locks.make(Path(folder, witness.LOCKS), neighbours.size)
    _notes = Path(neighbours.broadcast_bytes(folder.encode(), 0).decode())
    with contextlib.suppress(OSError):  # then the witness looks after the processes instead
        _locks = witness.Locks(_notes / witness.LOCKS, neighbours.size)
        _locks.hold(neighbours.rank)
    everyone = neighbours.gather_bytes(f"{group.rank}:{os.getpid()}".encode())
    if _caller:
        command = [sys.executable, "-I", "-S", witness.__file__, folder, str(group.size)]
        # In a session of its own: neither Ctrl-C nor the launcher ends it before it has spoken.
        called = subprocess.Popen([*command, *(each.decode() for each in everyone)], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
        assert called.stdout is not None
        called.stdout.readline()  # it is there
        called.stdout.close()
    neighbours.barrier()
    atexit.register(_note_end, group.rank, neighbours.rank, os.getpid())


def _note_end(rank: int, place: int, process: int) -> None:
    if os.getpid() == process:  # not a child
        _note(str(rank))
        if _locks is not None:
            _locks.release(place)


def _note(name: str) -> None:
    if _notes is not None and _notes.is_dir():
        (_notes / name).touch()
