"""Talk of all ranks, over tensors and objects (torch.distributed)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..tensor import Tensor
from .communicator import Request, wait
from .group import default_group


class ReduceOp:
    """How all_reduce combines; AVG is the sum divided by the number of ranks, for floating tensors."""

    SUM = "SUM"
    AVG = "AVG"
    PRODUCT = "PRODUCT"
    MIN = "MIN"
    MAX = "MAX"


_MPI_NAMES = {"SUM": "SUM", "AVG": "SUM", "PRODUCT": "PROD", "MIN": "MIN", "MAX": "MAX"}
_DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8")


class Work:
    """A collective under way; the tensor has its result after `wait()`."""

    def __init__(self, request: Request, finish: Callable[[], None]) -> None:
        self._request = request
        self._finish: Callable[[], None] | None = finish

    def is_completed(self) -> bool:
        """Whether every rank's part is here; to ask also moves it on."""
        return bool(self._request.Test())

    def wait(self) -> bool:
        """Returns, True, when the result is in the tensor."""
        wait(self._request)
        if self._finish is not None:
            self._finish()
            self._finish = None
        return True


def all_reduce(tensor: Tensor, op: str = ReduceOp.SUM, async_op: bool = False) -> Work | None:
    """Replaces `tensor` on every rank by the SUM, AVG, PRODUCT, MIN or MAX over all ranks.

    Every rank calls it with a tensor of the same shape and dtype, and all ranks get the same bits. With `async_op`
    it returns at once a `Work` to be waited for; the tensor is not to be touched before.

    Raises:
        DtypeError: a dtype that MPI does not add up (float16, bool), or AVG of integers.
        ValueError: an unknown `op`, or no process group.
    """
    group = default_group()
    _check_dtype("all_reduce", tensor)
    if op not in _MPI_NAMES:
        raise ValueError(f"all_reduce: op {op!r} is none of ReduceOp's: {', '.join(_MPI_NAMES)}")
    if op == ReduceOp.AVG and tensor._array.dtype.kind != "f":
        raise DtypeError(f"all_reduce: AVG needs a floating tensor, got {tensor.dtype}; take SUM and divide")
    array = np.array(tensor._array, order="C")

    def finish() -> None:
        if op == ReduceOp.AVG:
            array[...] /= group.size
        _put(tensor, array)

    return _run(group.start_all_reduce(array, _MPI_NAMES[op]), finish, async_op)


def broadcast(tensor: Tensor, src: int = 0, async_op: bool = False) -> Work | None:
    """Replaces `tensor` on every rank by that of the rank `src`. Raises as `all_reduce`, or for no such rank."""
    group = default_group()
    _check_dtype("broadcast", tensor)
    if not 0 <= src < group.size:
        raise ValueError(f"broadcast: src {src} is no rank of 0..{group.size - 1}")
    array = np.array(tensor._array, order="C")
    return _run(group.start_broadcast(array, src), lambda: _put(tensor, array), async_op)


def all_gather(tensor_list: list[Tensor], tensor: Tensor) -> None:
    """Puts every rank's `tensor` into `tensor_list`, which has one of that shape and dtype for each rank."""
    group = default_group()
    _check_dtype("all_gather", tensor)
    if len(tensor_list) != group.size:
        raise ValueError(f"all_gather: {group.size} ranks need as many tensors in tensor_list, got {len(tensor_list)}")
    for place, each in enumerate(tensor_list):
        if each.shape != tensor.shape or each.dtype != tensor.dtype:
            raise ShapeError(
                f"all_gather: tensor_list[{place}] is {each.dtype} of shape {list(each.shape)}, the tensor "
                f"{tensor.dtype} of shape {list(tensor.shape)}"
            )
    for each, array in zip(tensor_list, group.gather(tensor._array)):
        _put(each, array)


def all_gather_object(object_list: list[Any], obj: Any) -> None:
    """Puts every rank's picklable object into `object_list`, which has a place for each rank."""
    group = default_group()
    if len(object_list) != group.size:
        raise ValueError(
            f"all_gather_object: {group.size} ranks need as many places in object_list, got {len(object_list)}"
        )
    object_list[:] = [pickle.loads(each) for each in group.gather_bytes(pickle.dumps(obj))]


def broadcast_object_list(object_list: list[Any], src: int = 0) -> None:
    """Replaces the objects on every rank by those of the rank `src`."""
    group = default_group()
    message = pickle.dumps(object_list) if group.rank == src else b""
    object_list[:] = pickle.loads(group.broadcast_bytes(message, src))


def barrier() -> None:
    """Returns when every rank has called it."""
    default_group().barrier()


def _check_dtype(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a Tensor, got {type(tensor).__name__}")
    if tensor._array.dtype.name not in _DTYPES:
        raise DtypeError(f"{name}: MPI has no {tensor._array.dtype.name}; it takes {', '.join(_DTYPES)}")


def _run(request: Request, finish: Callable[[], None], async_op: bool) -> Work | None:
    work = Work(request, finish)
    if async_op:
        return work
    work.wait()
    return None


def _put(tensor: Tensor, array: np.ndarray) -> None:
    tensor._array[...] = array
    tensor._version_counter.bump()
