"""The process group: who is in it, how it starts, how it ends (torch.distributed)."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from . import failures, starting
from .communicator import Communicator

_group: Communicator | None = None


def is_available() -> bool:
    """True: without MPI a group has one rank."""
    return True


def is_mpi_available() -> bool:
    """Whether mpi4py is installed, which several ranks need."""
    return importlib.util.find_spec("mpi4py") is not None


def is_initialized() -> bool:
    """Whether there is a process group."""
    return _group is not None


def init_process_group(backend: str | None = None) -> None:
    """Makes the group of all ranks that `mpiexec -n N` (or Slurm's `srun`) has started; every rank calls it.

    Without a launcher the group has one rank and mpi4py is not needed. Where ranks share a host, its cores are
    divided among their kernels, unless the user chose a number of threads (`set_num_threads`,
    TINYNET_NUM_THREADS). From here on an exception that ends one rank ends the job, with the rank's name.
    While other ranks have not started yet, a line on stderr says so.

    Raises:
        ValueError: a backend other than "mpi" (or None).
        RuntimeError: there is a group already; mpi4py is missing; or the launcher is of another MPI than mpi4py,
            so that the ranks cannot see each other.
    """
    global _group
    if backend not in (None, "mpi"):
        raise ValueError(f"init_process_group: the backend is 'mpi', not {backend!r}")
    if _group is not None:
        raise RuntimeError("init_process_group: trying to initialize the default process group twice!")
    _group = Communicator(starting.start_mpi() if starting.launched() else None)
    if _group.size > 1:
        neighbours = starting.neighbours(_group)
        failures.watch(_group, neighbours)
        starting.divide_threads(neighbours)


def destroy_process_group() -> None:
    """Ends the group; MPI itself ends with the process. Raises ValueError without a group."""
    global _group
    default_group()
    failures.unwatch()
    _group = None


def default_group() -> Communicator:
    """The communicator of all ranks. Raises ValueError without a group."""
    if _group is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    return _group


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside of the block there is no group: what the model does then, it does without the other ranks."""
    global _group
    group, _group = _group, None
    try:
        yield
    finally:
        _group = group


def get_rank() -> int:
    """This process's number in the group, from 0. Raises ValueError without a group."""
    return default_group().rank


def get_world_size() -> int:
    """How many ranks there are. Raises ValueError without a group."""
    return default_group().size


def get_backend() -> str:
    """ "mpi". Raises ValueError without a group."""
    default_group()
    return "mpi"
