"""Some bytes that all processes of a server see, in a file that each of them maps into its memory.

What multiprocessing shares needs a /dev/shm that can be written to, and its locks are held for ever by a
process that was killed with them. Here whoever writes overwrites.
"""

from __future__ import annotations

import mmap
from pathlib import Path


class Shared:
    """So many bytes, ended by a zero like a text in C. Without a path this process has them for itself."""

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
    """One byte that is raised once."""

    def raise_(self) -> None:
        self._map[0] = 1

    def is_raised(self) -> bool:
        return self._map[0] == 1
