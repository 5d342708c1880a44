"""Downloads that end with the right file or with none."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from filelock import FileLock

from tinynet.errors import DataError

from .atomic import atomic_write
from .progress import progress

_BLOCK = 1 << 18
_TIMEOUT_SECONDS = 30.0


def download(url: str, path: str | os.PathLike[str], sha256: str, desc: str | None = None) -> Path:
    """Make sure that `path` holds the file with this SHA-256 (hexadecimal), fetching `url` if it does not.

    `sha256` may be its beginning only, as in the names of torch's files.

    Nothing is fetched when the file is there already. A lock file beside `path` lets several processes ask
    at once; the bytes reach `path` only after the checksum agreed (see `atomic_write`).

    Raises:
        DataError: no connection, an error from the server, a truncated answer or a wrong checksum. The
            partial file is deleted and a previous file kept; the message says where to put the file by hand.
    """
    path = Path(path)
    if _is_complete(path, sha256):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if _is_complete(path, sha256):  # another process may have fetched it meanwhile
            return path
        try:
            _fetch(url, path, sha256.lower(), desc or path.name)
        except DataError as error:
            by_hand = f"Without a connection, get the file elsewhere and put it at {path} (SHA-256 {sha256})."
            raise DataError(f"{error}. {by_hand}") from error.__cause__
    return path


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in lower-case hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_complete(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path).startswith(sha256.lower())


def _fetch(url: str, path: Path, sha256: str, desc: str) -> None:
    with _open(url) as response, atomic_write(path) as file:
        expected = int(response.headers.get("Content-Length") or 0) or None
        digest, received = hashlib.sha256(), 0
        with progress(total=expected, desc=desc, unit="B", unit_scale=True, unit_divisor=1024) as bar:
            while block := _read(response, url):
                file.write(block)
                digest.update(block)
                received += len(block)
                bar.update(len(block))
        if expected is not None and received != expected:
            raise DataError(f"{url} ended after {received} of {expected} bytes; nothing was kept")
        if not digest.hexdigest().startswith(sha256):
            raise DataError(f"{url} has the wrong checksum: SHA-256 {digest.hexdigest()} instead of {sha256} "
                            f"({received} bytes); nothing was kept")


def _open(url: str) -> HTTPResponse:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "tinynet"})
        return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        raise DataError(f"cannot download {url}: the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DataError(f"cannot download {url}: {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"cannot download {url}: {error!r}") from error


def _read(response: HTTPResponse, url: str) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise DataError(f"the download of {url} broke off ({error!r}); nothing was kept") from error
