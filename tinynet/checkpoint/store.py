"""`save` and `load` under torch's names: state_dicts to safetensors files, and back from those or torch's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tinynet import device, nn
from tinynet.checkpoint.header import read_header
from tinynet.checkpoint.opening import opened
from tinynet.checkpoint.safetensors import given_metadata, is_signed, load_safetensors, save_safetensors
from tinynet.checkpoint.torch_files import TensorInfo, is_torch_file, list_torch_file, read_torch_file
from tinynet.errors import CheckpointError

__all__ = ["Description", "describe", "load", "save"]


def save(
    obj: Mapping[str, Any] | nn.Module, f: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a state_dict (of a Module: its own) to the file `f`, all or nothing, in the safetensors format.

    torch reads it with `safetensors.torch.load_file(f)`, tinynet with `load`. The format is safetensors whatever
    the file's name is. Tensors that share memory (tied weights) are written under each of their names, whole, and
    loaded apart; views are written as what they show. `metadata` is text by name.

    Raises:
        TypeError: values other than tensors and arrays, nested ones in particular.
        OSError: the file cannot be written (the disk is full, ...); a previous file is unchanged.
    """
    state = obj.state_dict() if isinstance(obj, nn.Module) else obj
    if not isinstance(state, Mapping):
        raise TypeError(
            f"save: expected a state_dict, that is tensors by name, got {type(obj).__name__}; "
            'a single tensor can be saved as {"name": tensor}'
        )
    save_safetensors(state, f, metadata)


def load(f: str | os.PathLike[str], map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What `torch.load(f, weights_only=True)` returns, from a safetensors file or any of torch's layouts.

    A safetensors file gives an OrderedDict of tensors by name, a torch file whatever was saved: often that, or a
    dict that holds it. bfloat16 is read as float32. Nothing in a file is ever run. `map_location` may only be the
    CPU. Peak memory is about the size of the tensors.

    Raises:
        CheckpointError: not a checkpoint, truncated, damaged, or with anything but tensors and plain values; it
            names the path, what was expected and what was found.
        ValueError: `weights_only=False`.
    """
    if not weights_only:
        raise ValueError("load: weights_only=False would run code from the file, which tinynet never does")
    if map_location is not None:
        device(map_location)
    return load_safetensors(f).tensors if _is_safetensors(f) else read_torch_file(f)


class Description(NamedTuple):
    """What a checkpoint says of itself; `protected`: a checksum notices any damage to the data."""

    format: str
    metadata: dict[str, str]
    tensors: list[TensorInfo]
    protected: bool


def describe(path: str | os.PathLike[str]) -> Description:
    """Names, shapes, dtypes and sizes of a checkpoint's tensors, without reading their data.

    Raises CheckpointError.
    """
    if not _is_safetensors(path):
        return Description("torch", {}, list_torch_file(path), False)
    with opened(path) as (file, size):
        header = read_header(file, size)
    tensors = [entry.info for entry in header.entries]
    return Description("safetensors", given_metadata(header), tensors, is_signed(header))


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Which reader a file is for. Raises CheckpointError for what is no checkpoint at all."""
    with opened(path) as (file, size):
        head = file.read(16)
    if head[8:9] == b"{":
        return True
    if head.startswith(b"PK") or is_torch_file(path):
        return False  # also for zip archives of something else: that reader says of what
    raise CheckpointError(
        f"{os.fspath(path)} is not a checkpoint, or truncated: expected a safetensors or torch file, "
        f"found {size} bytes that begin with {head!r}"
    )
