"""Files that are either whole or untouched, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write into; `path` gets its content only when the block ends without an exception.

    The bytes go to a hidden temporary file in the same directory, are synced to the disk and renamed over
    `path`; a kill -9 or a power cut at any moment leaves the previous file or the new one, never a part.
    After an exception the temporary file is gone and the previous file is unchanged. (kill -9 leaves a
    `.<name>.<token>.partial` behind.) A full disk raises OSError with a message that names `path`.
    """
    target = Path(os.path.realpath(path))  # through a symbolic link, so that the link survives
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "cannot write a file over a directory", str(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
    try:
        with open(temporary, "xb") as file:
            _copy_mode(target, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        explained = _explained(error, path, temporary)
        if explained is None:
            raise
        raise explained from error
    _sync_directory(target.parent)


def _copy_mode(source: Path, destination: Path) -> None:
    with contextlib.suppress(OSError):
        os.chmod(destination, stat.S_IMODE(source.stat().st_mode))


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse; the rename itself has happened
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: BaseException, path: str | os.PathLike[str], temporary: Path) -> OSError | None:
    """The same error in the user's words, or None where it already is (or is none of the file's)."""
    if not isinstance(error, OSError):
        return None
    if error.errno in _DISK_FULL:
        reason = f"{os.strerror(error.errno)}; the previous file, if there was one, is unchanged"
    elif error.filename is not None and os.fspath(error.filename) == str(temporary):
        reason = f"cannot write here: {os.strerror(error.errno or 0)}"
    else:
        return None
    return OSError(error.errno, reason, os.fspath(path))
