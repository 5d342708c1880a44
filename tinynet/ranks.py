"""What training loops and commands do where several ranks train together; alone, all of it is nothing.

The ranks share the batches of one rank: each computes a part of every batch. So steps, schedule and the order of the
images do not depend on how many ranks there are, and a training may go on with another number of them.
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

import tinynet
from tinynet import Tensor, distributed
from tinynet.distributed import failures, starting
from tinynet.utils.data import DataLoader, DistributedSampler, IterableDataset, Sampler
from tinynet.utils.progress import CHOICE

T = TypeVar("T")


def join() -> None:
    """For a command: joins the other ranks if mpiexec started it. All but the first rank are silent from then on."""
    if not starting.launched() or distributed.is_initialized():
        return
    distributed.init_process_group()
    if not first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the process ends
        os.environ[CHOICE] = "0"
    elif starting.launcher_has_terminal():  # the rank itself writes into a pipe
        os.environ.setdefault(CHOICE, "1")


def count() -> int:
    """How many ranks there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def number() -> int:
    """This one's, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def first() -> bool:
    """Whether this rank writes files and speaks."""
    return number() == 0


def command(text: str) -> str:
    """How a user goes on with this command, on as many ranks."""
    return f"`{text}`" if count() == 1 else f"`mpiexec -n {count()} {text}` (other numbers of ranks can, too)"


def leave_words(words: str) -> None:
    """What is said if a rank is killed."""
    failures.leave_words(words)


def from_first(function: Callable[[], T]) -> T:
    """What `function` returns on the first rank, which alone calls it."""
    if count() == 1:
        return function()
    result: list[Any] = [function() if first() else None]
    distributed.broadcast_object_list(result)
    return result[0]


def gathered(mine: T) -> list[T]:
    """Every rank's, in the order of the ranks."""
    everyone: list[Any] = [mine] * count()
    if count() > 1:
        distributed.all_gather_object(everyone, mine)
    return everyone


def totals(mine: Mapping[str, float]) -> dict[str, float]:
    """Sums over the ranks, by name; every rank has the same names and gets the same bits."""
    everyone = gathered(dict(mine))
    return {name: sum(each[name] for each in everyone) for name in mine}


def described() -> str:
    """Ranks and threads, for a headline."""
    threads = tinynet.get_num_threads()
    text = f"{threads} thread{'s' if threads > 1 else ''}"
    return text if count() == 1 else f"{count()} ranks with {text} each"


def part(batch: Sequence[T], rank: int | None = None) -> Sequence[T]:
    """A rank's (this one's) part of a batch: neighbours, as many as the others have or one more; maybe none."""
    rank = number() if rank is None else rank
    return batch[len(batch) * rank // count() : len(batch) * (rank + 1) // count()]


class PartsOfBatches(Sampler[list[Any]]):
    """This rank's part of every batch. Of a batch with fewer images than ranks some get its first one, again.

    A pass is drawn as a whole, at its first batch or by `draw`: while the generators of all ranks are in one state.
    `sizes` are those of the present pass's whole batches.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.sizes: list[int] = []
        self._drawn: list[list[Any]] | None = None

    def draw(self) -> None:
        """Draws the pass that has started, unless it is drawn already."""
        if self._drawn is None:
            self._drawn = [list(batch) for batch in self.batches]
            self.sizes = [len(batch) for batch in self._drawn]

    def __iter__(self) -> Iterator[list[Any]]:
        self._drawn = None
        return self._parts()

    def _parts(self) -> Iterator[list[Any]]:
        self.draw()
        for batch in self._drawn or ():
            yield list(part(batch)) or batch[:1]

    def __len__(self) -> int:
        return len(self.batches)


def shared(loader: DataLoader) -> DataLoader:
    """A loader of this rank's part of every batch.

    Raises:
        ValueError: without batches of indices there are no parts; or a DistributedSampler has already taken them.
    """
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        raise ValueError("several ranks share the batches of a loader of indices: not of a stream or batch_size=None")
    if isinstance(loader.sampler, DistributedSampler):
        raise ValueError("the training gives each rank its part of every batch: leave the DistributedSampler out")
    own = copy.copy(loader)
    own.batch_sampler = PartsOfBatches(loader.batch_sampler)
    return own


def started(loader: DataLoader) -> Iterator[Any]:
    """A pass over a `shared` loader, or over any other on one rank, with its order drawn."""
    batches = iter(loader)
    if isinstance(loader.batch_sampler, PartsOfBatches):
        loader.batch_sampler.draw()
    return batches


def batch_sizes(loader: DataLoader) -> list[int]:
    """How many images the batches of a `shared` loader have on all ranks, of the pass that was started last."""
    sampler: Any = loader.batch_sampler
    return sampler.sizes


def joined(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Results (n, ...) for this rank's parts of batches of these sizes, as those of all images in their order."""
    everyone = gathered([each.numpy() for each in parts])
    whole = [everyone[rank][batch][: len(part(range(size), rank))]
             for batch, size in enumerate(sizes) for rank in range(count())]  # fmt: skip
    return tinynet.from_numpy(np.concatenate(whole))


def same_random_numbers(*generators: tinynet.Generator | None) -> None:
    """Puts the default generator and these into the state of the first rank's."""
    for generator in (tinynet.default_generator, *generators):
        if generator is not None and count() > 1:
            state = generator.get_state()
            distributed.broadcast(state)
            generator.set_state(state)


@contextlib.contextmanager
def own_random_numbers(epoch: int) -> Iterator[None]:
    """Inside of the block each rank draws other numbers, new in each epoch; after it all are where they were before.

    So the order of the images is that of one rank.
    """
    if count() == 1:
        yield
        return
    state = tinynet.get_rng_state()
    entropy = (int(tinynet.default_generator.numpy.integers(2**63)), epoch, number())
    tinynet.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
    try:
        yield
    finally:
        tinynet.set_rng_state(state)
