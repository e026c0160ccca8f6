"""Lets few requests at a time wait for a server that may be away: the lanes are needed for all others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import TemporaryError

# Seconds without an answer of the server after which no further request waits for it.
_WITHIN: Final = 1.0
# Seconds after a failure in which nobody tries again. Then one at a time does.
_REST: Final = 5.0


class Few:
    """At most `most` threads at a time are within the block, and only one after the server has failed."""

    def __init__(self, most: int, dependency: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = max(most, 1)
        self._dependency = dependency
        self._clock = clock
        self._left = threading.Condition()
        self._inside = 0
        self._moved = 0.0
        self._failed_at: float | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Raises TemporaryError if too many wait for the server already; one of the block is a failure."""
        with self._left:
            if not self._left.wait_for(self._has_room, self._patience()):
                raise TemporaryError(
                    f"{self._dependency} does not answer, and others wait for it already",
                    dependency=self._dependency,
                )
            if not self._inside:
                self._moved = self._clock()
            self._inside += 1
        failed_at = self._failed_at
        try:
            yield
            failed_at = None
        except TemporaryError:
            failed_at = self._clock()
            raise
        finally:
            with self._left:
                self._inside -= 1
                self._moved, self._failed_at = self._clock(), failed_at
                self._left.notify()

    def _patience(self) -> float:
        return max(self._moved + _WITHIN - self._clock(), 0.0) if self._failed_at is None else 0.0

    def _has_room(self) -> bool:
        if self._failed_at is None:
            return self._inside < self._most
        return not self._inside and self._clock() > self._failed_at + _REST
