"""Whether who takes a long answer still may: asked by the clock, as an answer may go on for days.

One thread per process asks for all of them, so that neither the number of streams nor how fast they flow
costs connections to the database. An answer that may not go on is ended within a few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from ..errors import TemporaryError

logger = logging.getLogger(__name__)

ASK_EVERY: Final = 1.0
# While the database does not say, an answer goes on for so long.
_BENEFIT_OF_DOUBT: Final = 60.0

Ask = Callable[[], bool]


class Revoked(Exception):
    """Whoever takes the answer may not any more; what was sent is not all of it."""


class Permit:
    """The right to one long answer. Called, it tells whether that still holds; it is to be closed."""

    __slots__ = ("__weakref__", "_close", "_known_at", "_may", "ask")

    def __init__(self, ask: Ask, close: Callable[[Permit], None]) -> None:
        self.ask = ask
        self._close = close
        self._may = True
        self._known_at = time.monotonic()

    def __call__(self) -> bool:
        return self._may and time.monotonic() - self._known_at < _BENEFIT_OF_DOUBT

    def renew(self) -> None:
        """Ask now."""
        try:
            self._may = self.ask()
            self._known_at = time.monotonic()
        except TemporaryError as exc:
            logger.warning("Whether a stream may go on is not known: %s", exc, extra={"action": "wait"})

    def close(self) -> None:
        """Nobody need ask any more."""
        self._close(self)


class Permits:
    """The permits of a process, and the thread that asks for them while there are any."""

    def __init__(self, every: float = ASK_EVERY) -> None:
        self._every = every
        self._lock = threading.Lock()
        # Weakly, so that an answer dropped without being closed is not asked for until the process ends.
        self._open: weakref.WeakSet[Permit] = weakref.WeakSet()
        self._running = False

    def issue(self, ask: Ask) -> Permit:
        """A permit that holds now, and as long as `ask` says so."""
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
            # The thread goes on for the others; this permit ends with its benefit of the doubt.
            logger.exception("Whether a stream may go on cannot be told", extra={"action": "permit_failed"})
