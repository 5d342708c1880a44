"""Before the first message: was this process launched as a rank, who is still missing, how many threads has each."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels import launch
from .communicator import Communicator

# What launchers leave in the environment: MPICH and its relatives, Open MPI and Slurm's PMIx, MPICH's hydra.
_SIGNS = ("PMI_RANK", "PMI_FD", "PMI_PORT", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")
_LOCAL_RANK = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
_HOW_MANY = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
FIRST_WORD_SECONDS = 5

# MPI's start holds Python's lock until the last rank is there, so another process has to say so. It ends when its
# stdin does, at the latest with the rank.
_WATCHER = """
import sys, threading
rank, pause = sys.argv[1], float(sys.argv[2])
end = threading.Thread(target=sys.stdin.read, daemon=True)
end.start()
waited = 0.0
while True:
    end.join(pause)
    if not end.is_alive():
        break
    waited += pause
    print(f"tinynet: {rank} has waited {waited:.0f} s for other ranks to start", file=sys.stderr, flush=True)
    pause = waited
"""


def launched() -> bool:
    """Whether a launcher (mpiexec, srun) has started this process as a rank."""
    return any(name in os.environ for name in _SIGNS)


def launcher_has_terminal() -> bool:
    """Whether the stderr of the mpiexec above this process is a terminal. Known on Linux only, else False."""
    process = os.getppid()
    with contextlib.suppress(OSError, ValueError):
        while process > 1:
            name = Path(f"/proc/{process}/comm").read_text().strip()
            if name.startswith(("mpiexec", "mpirun", "prterun", "srun")):
                return os.readlink(f"/proc/{process}/fd/2").startswith(("/dev/pts/", "/dev/tty"))
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def start_mpi() -> Any:
    """mpi4py's communicator of all ranks. Raises RuntimeError if there is none to be had."""
    try:
        import mpi4py
    except ImportError:
        raise RuntimeError(
            "started by mpiexec, but mpi4py is not installed: `pip install mpi4py mpich` (tinynet's extra `mpi`), "
            "or start one process without mpiexec"
        ) from None
    mpi4py.rc.initialize = False  # but below, watched
    mpi4py.rc.finalize = False  # a forked child would do it too, at its end, and take the rank's connections with it
    mpi4py.rc.thread_level = "serialized"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(f"mpi4py finds no MPI library ({error}): `pip install mpich`") from None
    if not MPI.Is_initialized():
        with _said_if_slow():
            MPI.Init_thread(MPI.THREAD_SERIALIZED)
        atexit.register(_finalize, MPI, os.getpid())
    comm = MPI.COMM_WORLD
    expected = max((int(os.environ[name]) for name in _HOW_MANY if os.environ.get(name, "").isdigit()), default=1)
    if comm.Get_size() == 1 and expected > 1:
        raise RuntimeError(
            f"mpiexec started {expected} ranks, but they do not see each other: mpi4py uses {_library(MPI)}, another "
            "MPI than this mpiexec's; take the mpiexec that came with it (`pip install mpich` puts one beside python)"
        )
    return comm


def _finalize(mpi: Any, process: int) -> None:
    """At the end of the process that began it."""
    if os.getpid() == process and not mpi.Is_finalized():
        mpi.Finalize()


def _library(mpi: Any) -> str:
    return " ".join(mpi.Get_library_version().split()[:3]).rstrip(",:")


@contextlib.contextmanager
def _said_if_slow() -> Iterator[None]:
    """Says on stderr, after 5, 10, 20, ... seconds inside of the block, that other ranks are missing.

    Two ranks of a host are enough to say it, as one of them may be the missing one.
    """
    local = next((os.environ[name] for name in _LOCAL_RANK if os.environ.get(name, "").isdigit()), "0")
    if int(local) > 1:
        yield
        return
    place = f"local rank {local} on {os.uname().nodename if hasattr(os, 'uname') else 'this host'}"
    watcher = subprocess.Popen([sys.executable, "-I", "-S", "-c", _WATCHER, place, str(FIRST_WORD_SECONDS)],
                               stdin=subprocess.PIPE)  # fmt: skip
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def neighbours(group: Communicator) -> Communicator:
    """The ranks of this host. Every rank calls it."""
    from mpi4py import MPI

    return Communicator(group.comm.Split_type(MPI.COMM_TYPE_SHARED))


def divide_threads(neighbours: Communicator) -> None:
    """Gives this rank its part of the host's cores, unless the user chose the threads."""
    mine = _cores()
    everyone = neighbours.gather_bytes(np.array(sorted(mine), np.int64).tobytes())
    users = [set(np.frombuffer(cores, np.int64).tolist()) for cores in everyone]
    # A launcher may have bound ranks to cores of their own: each core is divided among those who may run on it.
    part = sum(1 / sum(core in cores for cores in users) for core in mine)
    launch.suggest_num_threads(max(1, int(part + 1e-9)))


def _cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
