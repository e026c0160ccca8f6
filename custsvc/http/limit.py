"""Limits the requests of each caller, across all processes of a server; reset when the server stops.

The generic cell rate algorithm: for each caller it stores only the time at which the allowance is full again
(`tat`). A caller may use a whole minute's requests at once, and regains them evenly. The table is a file that
all workers map into their memory, so it survives the crash of a worker, but not the stop of the server.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import BinaryIO, Final, NamedTuple

from .problems import Problem

_SLOT: Final = struct.Struct("<Qd")
_SLOTS: Final = 16384
_PROBES: Final = 16
WINDOW: Final = 60.0
# Wrong keys and links per minute and address. Right ones are neither counted nor refused.
TRIES: Final = 120
_SIZE: Final = _SLOT.size * (_SLOTS + _PROBES)


class Allowance(NamedTuple):
    """A caller's allowance: whether this request is allowed, how many more at once, and the time to reset."""

    allowed: bool
    left: int
    full_in: float
    retry_in: float


def table(folder: str) -> BinaryIO:
    """A file for the limiters of all processes of a server. It goes when the server ends."""
    file = tempfile.NamedTemporaryFile(prefix="limit-", dir=folder)  # noqa: SIM115 - the caller closes it
    file.truncate(_SIZE)
    return file  # type: ignore[return-value]


class RateLimit:
    """At most `limit` requests per minute and caller. `path` names a table that processes share."""

    def __init__(
        self, limit: int, path: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR) if path else None  # held as long as the process lives
        self._map = mmap.mmap(-1 if self._file is None else self._file, _SIZE)

    def check(self, caller: str) -> Allowance:
        """Count a request of this caller. Raises Problem 429 if it exceeds the limit."""
        allowance = self._take(int.from_bytes(blake2b(caller.encode(), digest_size=8).digest()) | 1)
        if not allowance.allowed:
            seconds = max(math.ceil(allowance.retry_in), 1)
            raise Problem(
                429,
                "rate-limited",
                f"at most {self.limit} requests a minute; wait {seconds} s",
                headers=[("Retry-After", str(seconds)), *self.headers(allowance)],
            )
        return allowance

    def headers(self, allowance: Allowance) -> list[tuple[str, str]]:
        """The headers about the limit (the IETF's draft of RateLimit header fields)."""
        return [
            ("RateLimit-Policy", f'"default";q={self.limit};w={WINDOW:.0f}'),
            ("RateLimit", f'"default";r={allowance.left};t={math.ceil(allowance.full_in)}'),
        ]

    def _take(self, caller: int) -> Allowance:
        each = WINDOW / self.limit
        with self._lock:
            if self._file is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                now = self._clock()
                place, tat = self._find(caller, now)
                following = max(tat, now) + each
                allowed = following - now <= WINDOW + 1e-9
                if allowed:
                    _SLOT.pack_into(self._map, place, caller, following)
                used = (following if allowed else max(tat, now)) - now
            finally:
                if self._file is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_UN)
        left = max(int((WINDOW - used) / each + 1e-6), 0)
        return Allowance(allowed, left, used, 0.0 if allowed else following - now - WINDOW)

    def _find(self, caller: int, now: float) -> tuple[int, float]:
        """The caller's slot and time; a new caller replaces the one that has been away longest."""
        oldest, oldest_tat = 0, math.inf
        for number in range(_PROBES):
            place = (caller % _SLOTS + number) * _SLOT.size
            known, tat = _SLOT.unpack_from(self._map, place)
            if known == caller:
                return place, tat
            if tat < oldest_tat:
                oldest, oldest_tat = place, tat
        return oldest, now
