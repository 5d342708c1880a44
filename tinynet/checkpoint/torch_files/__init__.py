"""torch's checkpoints, read without torch and without running any code that is in them.

The three layouts that torch has written (zip, legacy stream, tar), each checked before memory is allocated.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, NamedTuple

from tinynet.checkpoint.opening import opened
from tinynet.checkpoint.torch_files import legacy, tar, zip
from tinynet.checkpoint.torch_files.storages import Contents
from tinynet.checkpoint.torch_files.tree import Builder, check_tree, named_tensors
from tinynet.errors import CheckpointError

__all__ = ["TensorInfo", "is_torch_file", "list_torch_file", "read_torch_file"]

HEAD = 2048  # bytes that tell the layout


class TensorInfo(NamedTuple):
    """A tensor as its file describes it; `dtype` is torch's name without "torch."."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.load(path, map_location="cpu", weights_only=True)` returns, with tinynet's Tensors.

    Any nesting of dict, OrderedDict (with `_metadata`), list, tuple and set, with Tensors, Parameters, dtypes,
    Sizes, strings, bytes and numbers. Tensors that share a storage share memory. bfloat16 is read as float32,
    a torch.device as its name. Peak memory is about the size of the tensors.

    Raises:
        CheckpointError: not a torch file, truncated, damaged, with names outside of the allow-list, or a dtype
            that tinynet has not; it names the path, what was expected and what was found.
    """
    with opened(path) as (file, size):
        contents = _parse(file, size)
        storages = contents.read_storages(file, check_tree(contents.value))
        return Builder(storages).build(contents.value)


def list_torch_file(path: str | os.PathLike[str]) -> list[TensorInfo]:
    """Name, shape, dtype and bytes of every tensor, in the file's order, without reading their data.

    Names are the keys that lead to a tensor, joined by dots. Raises CheckpointError.
    """
    with opened(path) as (file, size):
        value = _parse(file, size).value
        check_tree(value)
        records = named_tensors(value)
    return [TensorInfo(name, record.shape, record.dtype, record.nbytes) for name, record in records]


def is_torch_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file has one of torch's layouts; a truncated or damaged one still has, if its beginning does."""
    try:
        with opened(path) as (file, size):
            head = file.read(HEAD)
            if zip.looks_like(head) or legacy.looks_like(head) or tar.looks_like(head):
                return True
            return head.startswith(zip.MAGIC) and zip.parse(file, size) is not None
    except CheckpointError:
        return False


def _parse(file: BinaryIO, size: int) -> Contents:
    head = file.read(HEAD)
    if head.startswith((zip.MAGIC, b"PK\x05\x06")):
        return zip.parse(file, size)
    if legacy.looks_like(head):
        return legacy.parse(file, size)
    if tar.looks_like(head) or tar.is_archive(head):
        return tar.parse(file, size)
    raise CheckpointError(
        "not a torch file: expected a zip archive, torch's legacy stream or a tar archive, "
        f"found a file that begins with {head[:12]!r}"
    )
