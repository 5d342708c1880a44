"""Reading a file's bytes without trusting the lengths that it states."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, NoReturn

from tinynet.errors import CheckpointError


class Reader:
    """A part of a file, from its position on up to `end`; asking for more is an error, never an allocation.

    `name` is what error messages call that part.
    """

    __slots__ = ("_file", "end", "name", "position")

    def __init__(self, file: BinaryIO, name: str, start: int, end: int) -> None:
        file.seek(start)
        self._file, self.name, self.position, self.end = file, name, start, end

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.end - self.position:
            self._refuse(count)
        data = self._file.read(count)
        self.position += count
        if len(data) != count:
            raise CheckpointError(f"{self.name} became shorter while it was read")
        return data

    def readline(self, limit: int) -> bytes:
        """A line of at most `limit` bytes, without its line break."""
        line = self._file.readline(min(limit, self.end - self.position))
        self.position += len(line)
        if not line.endswith(b"\n"):
            raise CheckpointError(f"{self.name} is truncated or damaged: no end of a line of at most {limit} bytes")
        return line[:-1]

    def skip(self, count: int) -> None:
        if not 0 <= count <= self.end - self.position:
            self._refuse(count)
        self._file.seek(count, 1)
        self.position += count

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.read(struct.calcsize(layout)))

    def _refuse(self, count: int) -> NoReturn:
        raise CheckpointError(
            f"{self.name} is truncated or damaged: expected {count} bytes at byte {self.position}, "
            f"found {self.end - self.position}"
        )
