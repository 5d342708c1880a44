"""DataLoader: batches of a data set, in this process or from worker processes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from ...random import Generator, default_generator
from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed
from .worker import Fetcher, RemoteError, Settings, StreamEnded, run_worker

_GRACE_SECONDS = 0.5  # for a worker to finish its batch when it is no longer wanted


class DataLoader:
    """Iterates over batches of `dataset` (torch.utils.data.DataLoader).

    Args:
        dataset: a map-style `Dataset` (`__getitem__`, `__len__`) or an `IterableDataset`.
        batch_size: samples per batch; None yields single samples, converted but not stacked.
        shuffle: a new random order for each pass, from `generator` (default: the default generator).
        sampler, batch_sampler: the order of the indices, or of lists of them, instead of shuffle (and, for
            the latter, instead of batch_size, sampler and drop_last).
        num_workers: processes that fetch batches ahead; 0 fetches in this one. The batches and their order are
            the same. Random numbers drawn inside the data set are not: worker w draws from base seed + w, which
            is new for each pass and comes from `generator`.
        collate_fn: makes a batch of a list of samples.
        drop_last: leave out a last batch with fewer samples.
        timeout: seconds to wait for a batch from the workers; 0 waits for ever (a dead worker is noticed at once).
        worker_init_fn: called with the worker's id once in each worker, after seeding.
        multiprocessing_context: "fork", "spawn", "forkserver" or a context. Default: fork on Linux, where data
            sets written in a notebook work and the kernels of a forked worker fall back to NumPy if this
            process has started their threads; elsewhere the platform's default, in which everything is pickled.
        prefetch_factor: batches that each worker fetches ahead (2).
        persistent_workers: keep the workers for the next pass; they are seeded anew for it.

    An exception in a worker is raised here with its traceback in the text; a worker that dies raises RuntimeError.
    """

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None,
                 sampler: Sampler[Any] | Iterable[Any] | None = None,
                 batch_sampler: Sampler[Any] | Iterable[Any] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[Any], Any] | None = None, pin_memory: bool = False,
                 drop_last: bool = False, timeout: float = 0,
                 worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
                 generator: Generator | None = None, *, prefetch_factor: int | None = None,
                 persistent_workers: bool = False) -> None:
        _check_worker_options(num_workers, timeout, prefetch_factor, persistent_workers)
        _check_order_options(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last)
        if pin_memory:
            raise ValueError("DataLoader: pin_memory=True is for GPUs; tinynet computes on the CPU")
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory = False
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context: Any = _context(multiprocessing_context) if num_workers else None
        self.generator = generator
        self.persistent_workers = persistent_workers
        self.drop_last = drop_last
        self.sampler = _default_sampler(dataset, shuffle, generator) if sampler is None else sampler
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self._workers: _Workers | None = None

    def __iter__(self) -> Iterator[Any]:
        index_sampler = self.sampler if self.batch_sampler is None else self.batch_sampler
        indices = iter(index_sampler)
        base_seed = draw_seed(self.generator or default_generator)
        if self.num_workers == 0:
            return _SingleProcessIterator(self._fetcher(), indices)
        workers = self._workers or _Workers(self)
        if self.persistent_workers:
            self._workers = workers
        return _WorkerIterator(self, workers, indices, base_seed)

    def _fetcher(self) -> Fetcher:
        return Fetcher(self.dataset, self.batch_sampler is not None, self.collate_fn, self.drop_last)

    def _settings(self, worker: int) -> Settings:
        return Settings(worker, self.num_workers, self._fetcher(), self.worker_init_fn)

    def __len__(self) -> int:
        """The number of batches; for an IterableDataset, what its `__len__` promises."""
        if not isinstance(self.dataset, IterableDataset):
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]
        size = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def _check_worker_options(num_workers: int, timeout: float, prefetch_factor: int | None,
                          persistent_workers: bool) -> None:
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ValueError(f"DataLoader: num_workers must be an integer >= 0, got {num_workers!r}")
    if not timeout >= 0:
        raise ValueError(f"DataLoader: timeout must be >= 0 seconds, got {timeout}")
    if num_workers == 0 and (prefetch_factor is not None or persistent_workers):
        option = "persistent_workers" if persistent_workers else "prefetch_factor"
        raise ValueError(f"DataLoader: {option} needs num_workers > 0")
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError(f"DataLoader: prefetch_factor must be at least 1, got {prefetch_factor}")


def _check_order_options(dataset: Any, batch_size: int | None, shuffle: bool | None, sampler: Any,
                         batch_sampler: Any, drop_last: bool) -> None:
    if isinstance(dataset, IterableDataset):
        given = [name for name, value in
                 (("shuffle", shuffle), ("sampler", sampler), ("batch_sampler", batch_sampler))
                 if value is not None and value is not False]
        if given:
            raise ValueError(f"DataLoader: {', '.join(given)} cannot order an IterableDataset, which has no indices")
    if sampler is not None and shuffle:
        raise ValueError("DataLoader: give sampler or shuffle=True, not both")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ValueError("DataLoader: batch_sampler replaces batch_size, shuffle, sampler and drop_last")
    if batch_size is None and drop_last:
        raise ValueError("DataLoader: batch_size=None makes no batches, so there is none for drop_last to drop")


def _default_sampler(dataset: Dataset[Any], shuffle: bool | None, generator: Generator | None) -> Iterable[Any]:
    if isinstance(dataset, IterableDataset):
        return _Endless()
    return RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)  # type: ignore[arg-type]


class _Endless(Sampler[None]):
    """Asks a stream for the next sample, again and again."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


def _context(chosen: Any) -> Any:
    if chosen is None:
        chosen = "fork" if sys.platform == "linux" else multiprocessing.get_start_method()
    if not isinstance(chosen, str):
        return chosen
    known = multiprocessing.get_all_start_methods()
    if chosen not in known:
        raise ValueError(f"DataLoader: multiprocessing_context {chosen!r} is not one of {known}")
    return multiprocessing.get_context(chosen)


class _SingleProcessIterator:
    def __init__(self, fetcher: Fetcher, indices: Iterator[Any]) -> None:
        self._fetcher = fetcher
        self._indices = indices

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._fetcher.fetch(next(self._indices))


class _WorkerIterator:
    """One pass: hands out tasks in turn to the workers and yields the batches in the order of the tasks."""

    def __init__(self, loader: DataLoader, workers: _Workers, indices: Iterator[Any], base_seed: int) -> None:
        workers.epoch += 1
        self._epoch = workers.epoch
        self._loader = loader
        self._workers = workers
        self._indices = indices
        self._base_seed = base_seed
        self._turns = deque(range(loader.num_workers))  # workers whose stream has not ended
        self._pending: deque[tuple[int, int]] = deque()  # (number, worker) of the tasks handed out
        self._sent = 0
        self._arrived: dict[int, Any] = {}
        for _ in range(loader.num_workers * (loader.prefetch_factor or 1)):
            self._hand_out()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while self._pending:
            number, worker = self._pending[0]
            batch = self._wait_for(number)
            self._pending.popleft()
            if isinstance(batch, StreamEnded):
                if worker in self._turns:
                    self._turns.remove(worker)
                continue
            self._hand_out()
            if isinstance(batch, RemoteError):
                batch.raise_again()
            return batch
        if not self._loader.persistent_workers:
            self._workers.stop()
        raise StopIteration

    def _hand_out(self) -> None:
        if not self._turns:
            return
        for index in self._indices:
            worker = self._turns[0]
            self._turns.rotate(-1)
            self._workers.send(worker, (self._epoch, self._base_seed + worker, self._sent, index))
            self._pending.append((self._sent, worker))
            self._sent += 1
            return

    def _wait_for(self, number: int) -> Any:
        if self._epoch != self._workers.epoch:
            raise RuntimeError("DataLoader: with persistent_workers a new pass ends the one before it")
        try:
            while number not in self._arrived:
                epoch, arrived, batch = self._workers.receive(self._loader.timeout)
                if epoch == self._epoch:  # else of a pass that was broken off
                    self._arrived[arrived] = batch
        except BaseException:  # Ctrl-C too: it may have cut a message in two
            self._workers.stop(grace=0)
            self._loader._workers = None
            raise
        return self._arrived.pop(number)


class _Workers:
    """The worker processes of a loader and the parent's ends of their pipes."""

    def __init__(self, loader: DataLoader) -> None:
        self.epoch = 0
        self.processes: list[Any] = []
        self.tasks: list[Connection] = []
        self.results: list[Connection] = []
        # Runs when the iterator (or a loader with persistent workers) is dropped, and at exit.
        self._finalizer = weakref.finalize(self, _stop, os.getpid(), self.processes, self.tasks, self.results)
        with _undisturbed_start():
            for worker in range(loader.num_workers):
                self._start(loader, worker)
        if loader.multiprocessing_context.get_start_method() != "fork":
            for worker in range(loader.num_workers):
                self._send_settings(loader, worker)

    def _start(self, loader: DataLoader, worker: int) -> None:
        context = loader.multiprocessing_context
        their_tasks, our_tasks = context.Pipe(duplex=False)
        our_results, their_results = context.Pipe(duplex=False)
        self.tasks.append(our_tasks)
        self.results.append(our_results)
        if context.get_start_method() == "fork":
            settings, foreign = loader._settings(worker), [*self.tasks, *self.results]
        else:
            settings, foreign = None, []
        process = context.Process(target=run_worker, args=(settings, their_tasks, their_results, foreign),
                                  name=f"tinynet-data-worker-{worker}", daemon=True)
        process.start()
        self.processes.append(process)
        their_tasks.close()
        their_results.close()

    def _send_settings(self, loader: DataLoader, worker: int) -> None:
        # Not among the arguments of the process: `start` waits for ever for a child that dies before it has
        # read a large data set.
        try:
            self.send(worker, loader._settings(worker))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise RuntimeError("DataLoader: data set, collate_fn or worker_init_fn cannot be pickled for a new "
                               f"process ({error}); define them at the top level of a module") from error

    def send(self, worker: int, task: Any) -> None:
        with contextlib.suppress(OSError):  # the worker died; `receive` will say so
            self.tasks[worker].send(task)

    def receive(self, timeout: float) -> Any:
        """The next message of any worker; RuntimeError when one died or none came in `timeout` seconds."""
        sentinels = [process.sentinel for process in self.processes]
        ready = wait([*self.results, *sentinels], timeout or None)
        for connection in self.results:
            if connection in ready:
                with contextlib.suppress(EOFError, OSError):  # the worker died
                    message = connection.recv_bytes()
                    break
        else:
            if ready:
                raise RuntimeError(self._obituary())
            raise RuntimeError(f"DataLoader: no batch came from its workers within {timeout} seconds")
        return pickle.loads(message)

    def _obituary(self) -> str:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:  # the pipe closes a moment before the process has ended
            for worker, process in enumerate(self.processes):
                if process.exitcode is not None:
                    return (f"DataLoader worker {worker} (pid {process.pid}) exited unexpectedly: "
                            f"{_cause_of_death(process.exitcode)}")
            time.sleep(0.01)
        return "a DataLoader worker closed its pipe unexpectedly"

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """End the workers: soon if they are idle, by force after `grace` seconds."""
        if self._finalizer.detach() is not None:
            _stop(os.getpid(), self.processes, self.tasks, self.results, grace)


@contextlib.contextmanager
def _undisturbed_start() -> Iterator[None]:
    """Hold back Ctrl-C while processes start (they inherit that), and Python's general warning about fork.

    The kernels' threads, which it is about, are never touched by a forked child (`kernels.launch`).
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stop(owner: int, processes: list[Any], tasks: list[Connection], results: list[Connection],
          grace: float = _GRACE_SECONDS) -> None:
    if os.getpid() != owner:  # a forked copy of the parent must leave the workers alone
        return
    for connection in tasks:
        with contextlib.suppress(OSError):
            connection.send(None)
    for connection in [*tasks, *results]:
        connection.close()
    for end_by_force in (None, "terminate", "kill"):
        deadline = time.monotonic() + (grace if end_by_force is None else 1.0)
        for process in processes:
            if end_by_force is not None and process.exitcode is None:
                getattr(process, end_by_force)()
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))


def _cause_of_death(exitcode: int) -> str:
    if exitcode >= 0:
        return f"it left with exit code {exitcode} (os._exit, sys.exit or a crash in the data set's code)"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = " (often the system's answer to too little memory)" if name == "SIGKILL" else ""
    return f"it was killed by {name}{hint}"
