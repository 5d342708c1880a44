"""Compiled kernels on disk, safely: one file per function and signature, never trusted unless its digest fits.

Numba's own cache keeps an index beside its data and renews the two one after the other, so processes that
start together can read the wrong code. Here a file's name is a digest of everything that the machine code
depends on, its content carries its own digest, and it appears under its name in one step (`os.replace`).
Whatever goes wrong (no home, a full disk, a damaged file) costs only a new compilation.

A cached file is machine code that will run, so the folder must belong to this user and nobody else may write
to it; otherwise nothing is cached.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MAGIC = b"tinynet-kernel-1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size
_MOST_FILES = 1000


@functools.cache
def folder() -> Path | None:
    """The private cache folder, made on first use, or None where there can be no safe one.

    `$TINYNET_CACHE_DIR`, else the user's cache folder of this platform.
    """
    try:
        chosen = os.environ.get("TINYNET_CACHE_DIR")
        if not chosen:
            import platformdirs

            chosen = platformdirs.user_cache_dir("tinynet")
        path = Path(chosen).absolute() / "kernels"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _is_private(path) else None
    except Exception:  # no home, read-only disk, odd platform: work without a cache
        return None


def _is_private(path: Path) -> bool:
    """A real folder, ours, that neither group nor others can write to."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@functools.cache
def _source_digest() -> bytes:
    """Digest of all sources of this package and the versions of what compiles them."""
    import llvmlite
    import numba
    import numpy

    digest = hashlib.sha256()
    versions = (sys.version, sys.platform, numba.__version__, llvmlite.__version__, numpy.__version__)
    digest.update(repr(versions).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        content = source.read_bytes()
        digest.update(f"{source.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.digest()


class CompileCache:
    """What a Numba dispatcher asks for compiled code and gives new code to (in place of its own cache).

    `options` are the compilation options, part of the key; `on_miss()` is called before every compilation.
    """

    cache_path = None

    def __init__(self, function: Callable[..., Any], options: str, on_miss: Callable[[], None]) -> None:
        self._name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
        self._identity = f"{function.__module__}.{function.__qualname__} {options}"
        self._on_miss = on_miss

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled function for this signature, or None if it must be compiled."""
        target_context.refresh()
        try:
            payload = _read(self._path(signature, target_context))
            if payload is not None:
                from numba.core.compiler import CompileResult

                return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # whatever is wrong with a cached file, compiling is the answer
            pass
        self._on_miss()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function for the next process; failing to is no error."""
        try:
            from numba.core.serialize import dumps

            path = self._path(signature, result.target_context)
            if path is not None and not result.lifted and not result.library.has_dynamic_globals:
                _write(path, dumps(result._reduce()))
        except Exception:  # a full or read-only disk; the code in memory is fine
            pass

    def enable(self) -> None:
        """Part of Numba's cache protocol; this cache is always on."""

    def disable(self) -> None:
        """Part of Numba's cache protocol; this cache is always on."""

    def flush(self) -> None:
        """Part of Numba's cache protocol; files are never stale, as their name says what they hold."""

    def _path(self, signature: Any, target_context: Any) -> Path | None:
        place = folder()
        if place is None:
            return None
        processor = target_context.codegen().magic_tuple()
        key = repr((self._identity, str(signature), processor)).encode()
        return place / f"{self._name}-{hashlib.sha256(_source_digest() + key).hexdigest()[:40]}.bin"


def _read(path: Path | None) -> bytes | None:
    """The payload of a file that we wrote, or None if it is missing, foreign or damaged."""
    if path is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        if hasattr(os, "getuid") and os.fstat(descriptor).st_uid != os.getuid():
            return None
        content = file.read()
    head = len(_MAGIC) + _DIGEST_SIZE
    payload = content[head:]
    if content[:head] != _MAGIC + hashlib.sha256(payload).digest():
        return None
    return payload


def _write(path: Path, payload: bytes) -> None:
    """Put the file in place in one step: a reader sees all of it or nothing."""
    descriptor, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _drop_oldest(path.parent)


def _drop_oldest(place: Path) -> None:
    """Keep the folder from growing with every edit of the sources."""
    files = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(place)]
    for _, name in sorted(files)[: max(0, len(files) - _MOST_FILES)]:
        with contextlib.suppress(OSError):
            os.unlink(name)
