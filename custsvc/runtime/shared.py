"""Bytes shared by all processes of a server, in a file that each of them maps into its memory.

The shared objects of multiprocessing need a writable /dev/shm, and a killed process holds their locks for
ever. Here there are no locks: each write overwrites.
"""

from __future__ import annotations

import mmap
from pathlib import Path


class Shared:
    """Shared bytes, ended by a zero like a C string. Without a path they are private to this process."""

    def __init__(self, size: int, path: Path | None = None) -> None:
        self._size = size
        self._path = path
        if path is None:
            self._map = mmap.mmap(-1, size)
            return
        with path.open("ab") as file:
            file.truncate(size)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def __reduce__(self) -> tuple[type[Shared], tuple[int, Path | None]]:
        return type(self), (self._size, self._path)

    @property
    def value(self) -> bytes:
        return self._map[:].partition(b"\0")[0]

    @value.setter
    def value(self, value: bytes) -> None:
        self._map[:] = value[: self._size].ljust(self._size, b"\0")


class Flag(Shared):
    """One byte that can be set once."""

    def raise_(self) -> None:
        self._map[0] = 1

    def is_raised(self) -> bool:
        return self._map[0] == 1
