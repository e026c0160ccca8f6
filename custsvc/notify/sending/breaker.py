"""The circuit breaker: after some failures in a row it lets only one probe through periodically."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from .suspects import Suspects

# At least this many mails must have failed: a single mail may break the connection again and again.
_WITNESSES: Final = 3


class Breaker:
    """The circuit breaker of one mail server, shared by all its senders."""

    def __init__(
        self, threshold: int = 5, probe_every: float = 30.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._probe_every = probe_every
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._failed: set[object] = set()
        self._probe_at = 0.0
        self.suspects = Suspects(clock)

    @property
    def is_open(self) -> bool:
        """Whether the server is considered down."""
        return self._failures >= self._threshold and len(self._failed) >= min(_WITNESSES, self._threshold)

    def wait(self) -> float:
        """Seconds until a try is allowed. 0 allows one; if the circuit is open, it is the only probe."""
        with self._lock:
            if not self.is_open:
                return 0.0
            now = self._clock()
            if now < self._probe_at:
                return self._probe_at - now
            self._probe_at = now + self._probe_every
            return 0.0

    @property
    def is_ready(self) -> bool:
        """Whether `wait` would allow a try now."""
        return not self.is_open or self._clock() >= self._probe_at

    def unused(self) -> None:
        """There was no mail to probe with: the next sender need not wait."""
        with self._lock:
            self._probe_at = min(self._probe_at, self._clock())

    def failed(self, mail: str | None = None, *, asked: float = 0.0) -> bool:
        """Note that the server was down for this mail; True when the failures reach the threshold.

        `asked`: seconds that the server asks us to wait.
        """
        with self._lock:
            self._failures += 1
            self._failed.add(object() if mail is None else mail)
            if self.is_open:
                self._probe_at = self._clock() + max(self._probe_every, asked)
            return self._failures == self._threshold

    def answered(self) -> bool:
        """Note that the server answered, whatever the answer; True if that closed the circuit."""
        with self._lock:
            was_open = self._failures >= self._threshold
            self._failures = 0
            self._failed.clear()
            return was_open
