"""Gradients averaged over the ranks while backward still runs.

Backward reaches the last layers first, so buckets are filled from the last parameter to the first. Each parameter's
hook copies its gradient into its bucket; a full bucket's all-reduce starts at once, without blocking, and moves on
whenever a later hook looks after it. When the pass ends what is left is waited for, and only then are gradients
added to `.grad`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np

from ...distributed.communicator import Communicator, Request, wait
from ...errors import GraphError
from ...tape import edge_of, running_pass
from ...tensor import derived
from ..parameter import Parameter

FIRST_BUCKET_BYTES = 2**20  # small, so that the first all-reduce starts early


def bucket_plan(sizes: Sequence[int], kinds: Sequence[str], limits: Sequence[int]) -> list[list[int]]:
    """Which tensors go together: each list is closed once it holds `limits` bytes (the last limit for the rest).

    `sizes` in bytes; tensors of different `kinds` (dtypes) do not mix, and each kind has its own limits. The buckets
    are in the order of their first tensors. torch.distributed._compute_bucket_assignment_by_size.
    """
    open_buckets: dict[str, list[int]] = {}
    closed: dict[str, int] = {}
    plan = []
    for index, kind in enumerate(kinds):
        bucket = open_buckets.setdefault(kind, [])
        bucket.append(index)
        limit = limits[min(closed.get(kind, 0), len(limits) - 1)]
        if sum(sizes[each] for each in bucket) >= limit:
            plan.append(open_buckets.pop(kind))
            closed[kind] = closed.get(kind, 0) + 1
    return sorted(plan + list(open_buckets.values()), key=lambda bucket: bucket[0])


class Bucket:
    """Some gradients side by side in one array, and what has come of them in this pass."""

    def __init__(self, parameters: Sequence[tuple[str, Parameter]]) -> None:
        self.names = [name for name, _ in parameters]
        self.parameters = [parameter for _, parameter in parameters]
        self.flat = np.zeros(sum(each.numel() for each in self.parameters), self.parameters[0]._array.dtype)
        ends = np.cumsum([each.numel() for each in self.parameters])
        self.views = [self.flat[end - each.numel() : end].reshape(each.shape)
                      for end, each in zip(ends, self.parameters)]  # fmt: skip
        self.request: Request | None = None
        self.missing: set[int] = set()

    def reset(self) -> None:
        """Before the first gradient of a pass."""
        self.request = None
        self.missing = set(range(len(self.parameters)))


class Reducer:
    """Averages the gradients of `parameters` in every backward pass, unless `paused`.

    Args:
        parameters: with their names; those that require no grad are left alone.
        bucket_bytes: of gradients that travel together.
        find_unused: parameters without a gradient count as zero where another rank has one; otherwise they are an
            error, GraphError with their names.

    `waited` is how many seconds the passes have waited, in all, for communication that was not hidden.
    """

    def __init__(
        self, parameters: Iterable[tuple[str, Parameter]], group: Communicator, bucket_bytes: float, find_unused: bool
    ) -> None:
        self.group = group.duplicate()  # batch norms may talk in between
        self.find_unused = find_unused
        self.paused = False
        self.waited = 0.0
        trained = [(name, each) for name, each in parameters if each.requires_grad][::-1]
        self.buckets = [
            Bucket([trained[index] for index in bucket])
            for bucket in bucket_plan(
                [each._array.nbytes for _, each in trained],
                [each._array.dtype.name for _, each in trained],
                [int(min(FIRST_BUCKET_BYTES, bucket_bytes)), int(bucket_bytes)],
            )
        ]
        self._started = 0  # buckets of this pass whose all-reduce has started: always in order, on every rank
        self._pass: object = None
        if group.size > 1:
            for bucket in self.buckets:
                for place in range(len(bucket.parameters)):
                    self._attach(bucket, place)

    def _attach(self, bucket: Bucket, place: int) -> None:
        def hook(gradient: np.ndarray) -> np.ndarray | None:
            return self._arrived(bucket, place, gradient)

        node, index = edge_of(bucket.parameters[place])
        node.add_hook(index, hook)

    def _arrived(self, bucket: Bucket, place: int, gradient: np.ndarray) -> np.ndarray | None:
        running = running_pass()
        if self.paused or running is None or not running.accumulates:
            return None
        if running is not self._pass:
            self._begin(running)
        view, kept = bucket.views[place], bucket.parameters[place]._grad
        if kept is None:
            view[...] = gradient
        else:  # of passes under no_sync(), or averaged before: the average of the sum is the sum of the averages
            np.add(kept._array, gradient, out=view)
        bucket.missing.discard(place)
        self._start_full()
        for each in self.buckets[: self._started]:
            each.request.Test()  # type: ignore[union-attr]  # MPI moves on only when it is called
        return view

    def _begin(self, running) -> None:
        self._pass = running
        self._started = 0
        for bucket in self.buckets:
            bucket.reset()
        running.endings.append(self._finish)

    def _start_full(self) -> None:
        while self._started < len(self.buckets) and not self.buckets[self._started].missing:
            bucket = self.buckets[self._started]
            bucket.request = self.group.start_all_reduce(bucket.flat)
            self._started += 1

    def _finish(self) -> None:
        """At the end of a pass: the rest is sent and waited for."""
        self._pass = None
        absent = [(bucket, place) for bucket in self.buckets for place in sorted(bucket.missing)]
        if absent and not self.find_unused:
            names = [bucket.names[place] for bucket, place in absent]
            raise GraphError(
                f"DistributedDataParallel: backward reached no gradient of {', '.join(names[:5])}"
                f"{f' and {len(names) - 5} more' if len(names) > 5 else ''}: they had no part in the loss; pass "
                "find_unused_parameters=True if that is meant"
            )
        for bucket, place in absent:
            bucket.views[place][...] = self._kept(bucket, place)
            bucket.missing.discard(place)
        self._start_full()
        started = time.perf_counter()
        for bucket in self.buckets:
            wait(bucket.request)  # type: ignore[arg-type]
        used = self._used_anywhere({(id(bucket), place) for bucket, place in absent}) if self.find_unused else None
        self.waited += time.perf_counter() - started
        for bucket in self.buckets:
            bucket.flat /= self.group.size
            for parameter in bucket.parameters:
                if parameter._grad is not None:
                    parameter._grad._array[...] = 0  # it is in the average, which is added to it now
        for bucket, place in absent:
            if used is not None and used[id(bucket), place]:
                _accumulate(bucket.parameters[place], bucket.views[place])

    def _kept(self, bucket: Bucket, place: int) -> np.ndarray | float:
        kept = bucket.parameters[place]._grad
        return 0.0 if kept is None else kept._array

    def _used_anywhere(self, absent: set[tuple[int, int]]) -> dict[tuple[int, int], bool]:
        """For each parameter whether any rank has a gradient of it."""
        places = [(bucket, place) for bucket in self.buckets for place in range(len(bucket.parameters))]
        used = np.array([
            (id(bucket), place) not in absent or bucket.parameters[place]._grad is not None for bucket, place in places
        ], np.uint8)  # fmt: skip
        wait(self.group.start_all_reduce(used, "MAX"))
        return {(id(bucket), place): bool(each) for (bucket, place), each in zip(places, used)}


def _accumulate(parameter: Parameter, gradient: np.ndarray) -> None:
    """What backward does for the parameters that it has reached."""
    if parameter._grad is None:
        parameter._grad = derived(gradient.copy(), parameter)
    else:
        parameter._grad._array[...] += gradient
        parameter._grad._version_counter.bump()
