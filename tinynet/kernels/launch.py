"""How compiled kernels are started: the only place that configures Numba and threads.

- One launch at a time. Numba's `workqueue` layer aborts the process when two Python threads enter it together.
- One pool busy at a time. Kernels call no BLAS; the few small products that are left to it run on one thread under
  the same lock, which also makes results independent of the number of threads (OpenBLAS rounds differently on two).
- Small work stays on one thread: waking a second one may cost 80 us.
- Waiting threads soon sleep. GNU OpenMP's default is to spin for long, which starves whatever runs next.
- A forked child of a process that used the pool has no pool; kernels run on NumPy there.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinynet.kernels import cache
from tinynet.kernels.tile import Tile, vector_bytes

# libgomp reads these when it is loaded, which Numba does when its pool starts. Its threads then sleep while they
# wait, after some 100 us of looking out for the next kernel: to wake one takes 80 us, a kernel often less.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Less than this much estimated single-thread time per thread is not worth waking one up.
_NANOSECONDS_PER_THREAD = 100_000

# Only prange is turned into threads: Numba's other rewrites cost compile time and find nothing here.
_PRANGE_ONLY = {
    "prange": True, "reduction": False, "fusion": False, "setitem": False,
    "numpy": False, "comprehension": False, "inplace_binop": False, "stencil": False,
}  # fmt: skip

_lock = threading.RLock()
_chosen_threads: int | None = None
_announced = False
_orphaned = False
_warned_orphaned = False


def say(message: str) -> None:
    """One line to stderr, unless TINYNET_QUIET=1."""
    if os.environ.get("TINYNET_QUIET", "") in ("", "0") and sys.stderr is not None:
        print(message, file=sys.stderr, flush=True)


def announce_compiling() -> None:
    """Tell the user, once per process, that the wait is a compilation."""
    global _announced
    if not _announced:
        _announced = True
        say("tinynet: compiling kernels for this machine (once; about 30 s)…")


@functools.cache
def numba_problem() -> str | None:
    """Why Numba cannot be used here, or None if it can. Imports Numba."""
    try:
        import numba  # noqa: F401
    except Exception as error:  # a broken installation fails in many ways
        return f"{type(error).__name__}: {error}"
    return None


# --- compiling ---------------------------------------------------------------------------------------------


def prange(*bounds: int) -> range:
    """Stands for `numba.prange` in kernel sources, so that they import where Numba does not."""
    return range(*bounds)


class Compiled:
    """A function to be compiled at its first launch. Calls made inside other kernels are compiled in."""

    def __init__(self, function: Callable[..., Any], parallel: bool) -> None:
        self.function = function
        self.parallel = parallel
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        """Run the source as plain Python: slow, and open to a debugger."""
        return self.function(*args)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """The Numba function, with this package's cache behind it."""
        import numba

        checked = os.environ.get("TINYNET_BOUNDSCHECK", "") not in ("", "0")
        options: dict[str, Any] = {
            "parallel": _PRANGE_ONLY if self.parallel and not checked else False,
            "nogil": True,
            "fastmath": {"contract", "reassoc"},
            "error_model": "numpy",
            "boundscheck": checked,
        }
        dispatcher = numba.njit(self._with_compiled_globals(), **options)
        if hasattr(dispatcher, "_cache"):  # not under NUMBA_DISABLE_JIT
            key = f"parallel={self.parallel} boundscheck={checked} vector={vector_bytes()}"
            dispatcher._cache = cache.CompileCache(self.function, key, announce_compiling)
        return dispatcher

    def _with_compiled_globals(self) -> Callable[..., Any]:
        """The same function seeing dispatchers and `numba.prange` where the source has their stand-ins."""
        import numba

        scope = dict(self.function.__globals__)
        for name in self.function.__code__.co_names:
            value = scope.get(name)
            if isinstance(value, Compiled | Tile):
                scope[name] = value.dispatcher
            elif value is prange:
                scope[name] = numba.prange
        return types.FunctionType(self.function.__code__, scope, self.function.__name__)


def jit(function: Callable[..., Any]) -> Compiled:
    """A kernel with a `prange` loop, to be started with `launch`."""
    return Compiled(function, parallel=True)


def sequence(function: Callable[..., Any]) -> Compiled:
    """Kernels one after the other, to be started with one `launch`."""
    return Compiled(function, parallel=False)


def inner(function: Callable[..., Any]) -> Compiled:
    """A function that kernels call inside their loops."""
    return Compiled(function, parallel=False)


# --- threads -----------------------------------------------------------------------------------------------


def available_threads() -> int:
    """How many threads kernels may use at most here."""
    if numba_problem() is not None:
        return 1
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def set_num_threads(count: int) -> None:
    """Use at most `count` threads in kernels from now on. Results do not depend on it, bit for bit."""
    global _chosen_threads
    if isinstance(count, bool) or not isinstance(count, int | np.integer):
        raise TypeError(f"set_num_threads: expected an int, got {type(count).__name__}")
    if count < 1:
        raise ValueError(f"set_num_threads: expected at least 1 thread, got {count}")
    _chosen_threads = min(int(count), available_threads())


def suggest_num_threads(count: int) -> None:
    """The same unless the user has chosen, with set_num_threads or $TINYNET_NUM_THREADS."""
    if _chosen_threads is None and not os.environ.get("TINYNET_NUM_THREADS", "").strip():
        set_num_threads(count)


def get_num_threads() -> int:
    """How many threads kernels use at most: set_num_threads, else $TINYNET_NUM_THREADS, else all cores."""
    return _chosen_threads or _threads_at_start()


@functools.cache
def _threads_at_start() -> int:
    wanted = os.environ.get("TINYNET_NUM_THREADS", "").strip()
    if not wanted:
        return available_threads()
    if not wanted.isdigit() or int(wanted) < 1:
        raise ValueError(f"TINYNET_NUM_THREADS must be a whole number from 1, got {wanted!r}")
    return min(int(wanted), available_threads())


def threading_layer() -> str | None:
    """Numba's threading layer ("omp", "tbb", "workqueue"), or None while no kernel has run in parallel."""
    if numba_problem() is not None:
        return None
    import numba

    try:
        return numba.threading_layer()
    except ValueError:
        return None


# --- BLAS --------------------------------------------------------------------------------------------------


class _BlasLibrary:
    """One loaded BLAS library and its number of threads."""

    def __init__(self, controller: Any) -> None:
        self.controller = controller
        self.get: Callable[[], int] = controller.get_num_threads
        self.set: Callable[[int], Any] = controller.set_num_threads
        if controller.internal_api == "openblas" and getattr(controller, "threading_layer", "") != "openmp":
            # threadpoolctl lets only the first thread that asks set this (one pool serves the whole process)
            # and ignores the others; the launch lock already orders ours, so call the library itself.
            for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64")):
                function = getattr(controller.dynlib, f"{prefix}openblas_set_num_threads{suffix}", None)
                if function is not None:
                    self.set = function


@functools.cache
def _blas_libraries() -> tuple[_BlasLibrary, ...]:
    """NumPy's BLAS and others that are loaded at the first product; a search takes 4 ms."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return ()
    return tuple(map(_BlasLibrary, ThreadpoolController().select(user_api="blas").lib_controllers))


def blas_libraries() -> list[dict[str, Any]]:
    """What threadpoolctl says about the BLAS libraries in use: version, architecture, threads, file."""
    return [library.controller.info() for library in _blas_libraries()]


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold the launch lock and run BLAS on one thread inside the `with` block."""
    with _lock:
        limited = []
        try:
            for library in _blas_libraries():
                threads = library.get()
                if threads != 1:
                    limited.append((library, threads))
                    library.set(1)
            yield
        finally:
            for library, threads in limited:
                library.set(threads)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.matmul on one BLAS thread: the same bits however many cores there are."""
    with single_threaded_blas():
        return np.matmul(a, b)


# --- launching ---------------------------------------------------------------------------------------------


def threads_for(cost: float) -> int:
    """How many threads a kernel of this estimated single-thread time (nanoseconds) is given."""
    return max(1, min(get_num_threads(), int(cost / _NANOSECONDS_PER_THREAD)))


def launch(kernel: Compiled, *args: Any, cost: float) -> None:
    """Run a compiled kernel alone; `cost` is a rough estimate of its single-thread time in nanoseconds."""
    with _lock:
        get_threads, set_threads = _thread_switch()
        before, threads = get_threads(), threads_for(cost)
        if threads == before:
            kernel.dispatcher(*args)
            return
        set_threads(threads)
        try:
            kernel.dispatcher(*args)
        finally:
            set_threads(before)


@functools.cache
def _thread_switch() -> tuple[Callable[[], int], Callable[[int], None]]:
    """Numba's functions to get and set its threads, without the locks and checks around them: as long as a kernel.

    How many threads there are has been checked (`set_num_threads`), and the pool runs from here on.
    """
    import numba
    from numba.np.ufunc import parallel

    numba.get_num_threads()  # starts the pool
    return (
        getattr(parallel, "_get_num_threads", numba.get_num_threads),
        getattr(parallel, "_set_num_threads", numba.set_num_threads),
    )


def readable(array: np.ndarray) -> np.ndarray:
    """C-contiguous, aligned and formally writable, so that every input has the one type compiled for.

    Copies only if the layout demands it; a read-only array in the right layout is viewed. Kernels never write
    to their inputs.
    """
    array = np.ascontiguousarray(array)
    if not array.flags.aligned:
        return array.copy()
    if array.flags.writeable:
        return array
    return np.asarray(_WritableView(array))


class _WritableView:
    """NumPy's array interface of a read-only array, without the flag."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


# --- fork --------------------------------------------------------------------------------------------------


def usable_in_this_process() -> bool:
    """False in a forked child whose parent had started the thread pool: kernels run on NumPy there."""
    global _warned_orphaned
    if _orphaned and not _warned_orphaned:
        _warned_orphaned = True
        warnings.warn(
            "tinynet: this process was forked from one that had used compiled kernels, whose threads do not "
            "survive a fork; kernels run on the NumPy backend here (start processes with 'spawn' to avoid it)",
            RuntimeWarning,
            stacklevel=4,
        )
    return not _orphaned


def _after_fork_in_child() -> None:
    """The lock may be held by a thread that is gone, and the pool's threads are gone for certain."""
    global _lock, _orphaned
    _lock = threading.RLock()
    pool = sys.modules.get("numba.np.ufunc.parallel")
    if pool is not None and getattr(pool, "_is_initialized", False):
        _orphaned = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
