"""Data-loader workers: processes that fetch batches and send them back in pickled form.

Each worker has two pipes of its own and shares no lock with anyone, so that one killed at any moment can only
break its own pipes, which the parent notices. A thread in the worker empties the task pipe and another one
fills the result pipe, so neither side ever waits for the other to read first.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import random as python_random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ... import random
from .dataset import IterableDataset


@dataclass
class Fetcher:
    """Turns what the sampler yields into a batch; used in the parent (no workers) and in every worker."""

    dataset: Any
    auto_collation: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool

    def __post_init__(self) -> None:
        self.stream: Iterator[Any] | None = None

    def fetch(self, index: Any) -> Any:
        """The batch for `index`; raises StopIteration where a stream has ended."""
        if isinstance(self.dataset, IterableDataset):
            return self.collate_fn(self._from_stream(index))
        try:
            return self.collate_fn(self._by_index(index))
        except StopIteration as error:  # would silently end the epoch
            raise RuntimeError(f"the data set raised StopIteration for index {index}") from error

    def _by_index(self, index: Any) -> Any:
        if not self.auto_collation:
            return self.dataset[index]
        several = getattr(self.dataset, "__getitems__", None)
        return several(index) if callable(several) else [self.dataset[i] for i in index]

    def _from_stream(self, index: Any) -> Any:
        if self.stream is None:
            self.stream = iter(self.dataset)
        if not self.auto_collation:
            return next(self.stream)
        batch = [sample for _, sample in zip(index, self.stream)]
        if not batch or (self.drop_last and len(batch) < len(index)):
            raise StopIteration
        return batch


@dataclass
class WorkerInfo:
    """What `get_worker_info()` tells in a worker: its `id`, `num_workers`, its `seed` and its `dataset`."""

    id: int
    num_workers: int
    seed: int
    dataset: Any = field(repr=False)


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """The worker that this code runs in, or None in the main process."""
    return _worker_info


@dataclass
class RemoteError:
    """An exception that a worker met, in a form that every process can read."""

    type: type[BaseException]
    text: str
    worker: int

    @classmethod
    def from_exception(cls, error: BaseException, worker: int) -> RemoteError:
        kind = type(error)
        try:
            pickle.dumps(kind)
        except Exception:  # a class defined inside a function
            kind = RuntimeError
        return cls(kind, "".join(traceback.format_exception(error)), worker)

    def raise_again(self) -> None:
        """Raise the same type of exception, or RuntimeError where it cannot be made from one text."""
        text = f"{self.type.__name__} in data-loader worker {self.worker}.\n{self.text}"
        try:
            error = self.type(text)
        except Exception:
            error = RuntimeError(text)
        if isinstance(error, KeyError):  # shows its argument by repr, in one line
            error = KeyError(_Text(text))
        raise error from None


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


class StreamEnded:
    """Sent in place of a batch when the worker's stream has no more."""


@dataclass
class Settings:
    """What a worker is given when it starts."""

    id: int
    num_workers: int
    fetcher: Fetcher
    init_fn: Callable[[int], None] | None


def run_worker(settings: Settings | None, tasks: Connection, results: Connection,
               foreign: list[Connection]) -> None:
    """Main function of a worker process: `(epoch, seed, number, index)` in, `(epoch, number, batch)` out.

    `settings` come as the first task where they could not be forked. `foreign` are pipe ends of the parent
    that a fork copied; closed here, so that its death is noticed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TINYNET_NUM_THREADS"] = "1"  # the workers are the parallelism
    for connection in foreign:
        connection.close()
    if settings is None:
        settings = tasks.recv()
    todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive_tasks, args=(tasks, todo), daemon=True).start()
    threading.Thread(target=_send_results, args=(done, results, todo), daemon=True).start()
    _work(settings, todo, done)


def _receive_tasks(tasks: Connection, todo: queue.SimpleQueue[Any]) -> None:
    try:
        with contextlib.suppress(EOFError, OSError):  # the parent died
            while (task := tasks.recv()) is not None:
                todo.put(task)
    finally:
        todo.put(None)


def _send_results(done: queue.SimpleQueue[bytes], results: Connection, todo: queue.SimpleQueue[Any]) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        while True:
            results.send_bytes(done.get())
    todo.put(None)


def _work(settings: Settings, todo: queue.SimpleQueue[Any], done: queue.SimpleQueue[bytes]) -> None:
    present = None
    start_error: Exception | None = None
    while (task := todo.get()) is not None:
        epoch, seed, number, index = task
        try:
            if epoch != present:
                _begin_epoch(settings, seed)
                if present is None and settings.init_fn is not None:
                    start_error = _caught(settings.init_fn, settings.id)
                present = epoch
            if start_error is not None:
                raise start_error
            # Pickled here and not by the sending thread: the data set may reuse its arrays for the next batch.
            message = pickle.dumps((epoch, number, settings.fetcher.fetch(index)), pickle.HIGHEST_PROTOCOL)
        except StopIteration:
            message = pickle.dumps((epoch, number, StreamEnded()))
        except Exception as error:
            message = pickle.dumps((epoch, number, RemoteError.from_exception(error, settings.id)))
        done.put(message)


def _begin_epoch(settings: Settings, seed: int) -> None:
    global _worker_info
    _worker_info = WorkerInfo(settings.id, settings.num_workers, seed, settings.fetcher.dataset)
    settings.fetcher.stream = None
    python_random.seed(seed)
    random.manual_seed(seed)
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002  users' transforms use it


def _caught(function: Callable[[int], None], argument: int) -> Exception | None:
    try:
        function(argument)
    except Exception as error:
        return error
    return None
