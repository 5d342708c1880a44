"""DistributedDataParallel: one model on every rank, kept equal by averaging gradients (torch.nn.parallel)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...distributed.communicator import Communicator, wait
from ...distributed.group import default_group
from ...errors import GraphError
from ...tensor import Tensor
from ..module import Module
from .reducer import Reducer

MEGABYTE = 2**20


class DistributedDataParallel(Module):
    """Runs `module` on this rank's part of each batch and averages the gradients over all ranks in backward.

    At the start every rank gets rank 0's parameters and buffers. From then on equal gradients keep the parameters
    equal; buffers are sent from rank 0 before each forward pass (`broadcast_buffers`). The average of the ranks'
    gradients is the whole batch's gradient if the loss is a mean and all have the same number of images.

    Args:
        module: any model; it stays reachable as `.module`, and a state_dict of this wrapper has "module." before
            its keys, as torch's has: save `ddp.module.state_dict()`.
        broadcast_buffers: False saves that, where they are equal anyway (`SyncBatchNorm`) or need not be.
        bucket_cap_mb: megabytes (2²⁰ bytes) of gradients that are sent together; the first bucket has 1.
        find_unused_parameters: parameters that had no part in the loss are no error; a rank that did not use one
            counts as zero.

    Raises:
        ValueError: no process group; `init_process_group()` comes first, with or without mpiexec.
        GraphError: no parameter requires a gradient; or, from backward, a parameter has none.
        RuntimeError: the ranks' models differ in number or shapes of their parameters.
    """

    def __init__(
        self, module: Module, device_ids: None = None, output_device: None = None, dim: int = 0,
        broadcast_buffers: bool = True, process_group: None = None, bucket_cap_mb: float = 25,
        find_unused_parameters: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if device_ids or output_device is not None or process_group is not None or dim != 0:
            raise ValueError(
                "DistributedDataParallel: tinynet has one CPU, one group and batches along axis 0: leave out "
                "device_ids, output_device, process_group and dim"
            )
        if not bucket_cap_mb > 0:
            raise ValueError(f"DistributedDataParallel: bucket_cap_mb must be positive, got {bucket_cap_mb}")
        group = default_group()
        parameters = list(module.named_parameters())
        if not any(each.requires_grad for _, each in parameters):
            raise GraphError("DistributedDataParallel: no parameter of the module requires a gradient")
        self.module = module
        self.broadcast_buffers = broadcast_buffers
        self.find_unused_parameters = find_unused_parameters
        _check_equal(group, parameters)
        _send_from_first(group, [*module.parameters(), *module.buffers()])
        self.reducer = Reducer(parameters, group, bucket_cap_mb * MEGABYTE, find_unused_parameters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.broadcast_buffers and not self.reducer.paused:
            _send_from_first(default_group(), list(self.module.buffers()))
        return self.module(*args, **kwargs)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Backward inside of the block only accumulates on this rank; the next one outside averages all of it."""
        before, self.reducer.paused = self.reducer.paused, True
        try:
            yield
        finally:
            self.reducer.paused = before


def _check_equal(group: Communicator, parameters: list[tuple[str, Any]]) -> None:
    """Otherwise ranks would wait for each other for ever, or mix up numbers."""
    mine = "; ".join(f"{name} {list(each.shape)} {each.dtype}" for name, each in parameters)
    for rank, theirs in enumerate(group.gather_bytes(mine.encode())):
        if theirs.decode() != mine:
            pair = zip(mine.split("; "), theirs.decode().split("; "))
            here, there = next((pair for pair in pair if pair[0] != pair[1]), ("the last", "another number"))
            raise RuntimeError(
                f"DistributedDataParallel: rank {group.rank} and rank {rank} have different models: {here} here, "
                f"{there} there"
            )


def _send_from_first(group: Communicator, tensors: list[Tensor]) -> None:
    """Rank 0's values for everybody, in one message per dtype."""
    if group.size == 1:
        return
    for dtype in dict.fromkeys(each._array.dtype for each in tensors):
        alike = [each for each in tensors if each._array.dtype == dtype]
        flat = np.concatenate([each._array.reshape(-1) for each in alike]).view(np.uint8)
        wait(group.start_broadcast(flat, 0))
        values = flat.view(dtype)
        start = 0
        for each in alike:
            if group.rank:
                each._array[...] = values[start : start + each.numel()].reshape(each.shape)
                each._version_counter.bump()
            start += each.numel()
