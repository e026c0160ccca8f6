"""How many requests one caller may make: the same for all processes of a server, forgotten when it stops.

The generic cell rate algorithm: of each caller only the time is kept at which all they used is given back
(`tat`). A caller may use their whole minute at once, and gets it back evenly. The table is a file that all
workers map into their memory, so a worker that crashed forgives nothing; the stop of the server forgives all.
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
# Wrong keys and links that an address may try in a minute. Right ones are not counted, nor kept from it.
TRIES: Final = 120
_SIZE: Final = _SLOT.size * (_SLOTS + _PROBES)


class Allowance(NamedTuple):
    """What a caller has left: whether this request may go on, how many more at once, and until when."""

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
    """At most `limit` requests a minute of each caller. `path` names a table that processes share."""

    def __init__(
        self, limit: int, path: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR) if path else None  # held as long as the process lives
        self._map = mmap.mmap(-1 if self._file is None else self._file, _SIZE)

    def check(self, caller: str) -> Allowance:
        """Count a request of this caller. Raises Problem 429 where it is one too many."""
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
        """What an answer tells of the limit (the IETF's draft of RateLimit header fields)."""
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
        """The caller's place and time; a new one takes the place of whoever has been away longest."""
        oldest, oldest_tat = 0, math.inf
        for number in range(_PROBES):
            place = (caller % _SLOTS + number) * _SLOT.size
            known, tat = _SLOT.unpack_from(self._map, place)
            if known == caller:
                return place, tat
            if tat < oldest_tat:
                oldest, oldest_tat = place, tat
        return oldest, now
