"""Opening checkpoints: every error that a file causes names its path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from tinynet.errors import CheckpointError


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size; errors in the body get the path put before them."""
    path = os.fspath(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError("not a file")
        if not status.st_size:
            raise CheckpointError("the file is empty")
        with open(path, "rb") as file:
            yield file, status.st_size
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from error.__cause__
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
