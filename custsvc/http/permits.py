"""Whether the reader of a long answer is still permitted: checked periodically, as an answer may last days.

One thread per process checks all of them, so that neither the number of streams nor their speed costs
database connections. An answer whose permission ended is ended within a few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from ..errors import TemporaryError, Unusable

logger = logging.getLogger(__name__)

ASK_EVERY: Final = 1.0
# During an outage of the database an answer goes on for this many seconds.
_BENEFIT_OF_DOUBT: Final = 60.0

Ask = Callable[[], bool]


class Revoked(Exception):
    """The reader's permission has ended; the answer is incomplete."""


class Permit:
    """The permission for one long answer. Call it to see whether it still holds; close it at the end."""

    __slots__ = ("__weakref__", "_close", "_known_at", "_may", "ask")

    def __init__(self, ask: Ask, close: Callable[[Permit], None]) -> None:
        self.ask = ask
        self._close = close
        self._may = True
        self._known_at = time.monotonic()

    def __call__(self) -> bool:
        return self._may and time.monotonic() - self._known_at < _BENEFIT_OF_DOUBT

    def renew(self) -> None:
        """Check the permission now."""
        try:
            self._may = self.ask()
            self._known_at = time.monotonic()
        except (TemporaryError, Unusable) as exc:
            logger.warning("Whether a stream may go on is not known: %s", exc, extra={"action": "wait"})

    def close(self) -> None:
        """Stop checking."""
        self._close(self)


class Permits:
    """The permits of a process, and the thread that checks them while there are any."""

    def __init__(self, every: float = ASK_EVERY) -> None:
        self._every = every
        self._lock = threading.Lock()
        # Weak references, so that an answer that was dropped without close is not checked for ever.
        self._open: weakref.WeakSet[Permit] = weakref.WeakSet()
        self._running = False

    def issue(self, ask: Ask) -> Permit:
        """A permit that holds now, and as long as `ask` returns true."""
        permit = Permit(ask, self._withdraw)
        with self._lock:
            self._open.add(permit)
            if not self._running:
                threading.Thread(target=self._run, name="permits", daemon=True).start()
                self._running = True
        return permit

    def _withdraw(self, permit: Permit) -> None:
        with self._lock:
            self._open.discard(permit)

    def _run(self) -> None:
        while True:
            time.sleep(self._every)
            with self._lock:
                permits = list(self._open)
                if not permits:
                    self._running = False
                    return
            for permit in permits:
                self._renew(permit)

    def _renew(self, permit: Permit) -> None:
        try:
            permit.renew()
        except Exception:
            # The thread goes on for the others; this permit ends after `_BENEFIT_OF_DOUBT` seconds.
            logger.exception("It is unknown whether a stream may go on", extra={"action": "permit_failed"})
