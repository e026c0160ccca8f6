"""Prepares a role's database before its work: migrates the schema, which may take long.

This runs in its own thread, so that the process handles signals and answers probes meanwhile.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

from ..errors import Stopped, TemporaryError
from ..ports.store import Store
from ..ports.waiting import Waiting
from ..runtime.loop import Stop

# Seconds after a stop request until we stop waiting for a busy server: it finishes its work alone.
_GRACE: Final = 5.0


class Preparing:
    """Work on a database that comes before anything else, and its progress.

    `work` gets a `Waiting`. Calling this object is a readiness check: it raises until the work is done.
    """

    def __init__(self, store: Store, work: Callable[[Waiting], object], stop: Stop) -> None:
        self._store = store
        self._work = work
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="prepare", daemon=True)
        self._error: BaseException | None = None
        self._done = False
        self.reason = "the schema is being brought up to date"

    def start(self) -> Preparing:
        self._thread.start()
        return self

    def run(self) -> bool:
        """Do the work while signals are handled; False if stop was asked. Raises the work's error."""
        self.start()
        while self._thread.is_alive() and not self._stop.asked():
            self.join(0.2)
        if self._stop.asked():
            self.join(_GRACE)
        return self.is_done()

    def join(self, seconds: float) -> None:
        """Wait for the end of the work, for at most these seconds."""
        self._thread.join(seconds)

    def is_done(self) -> bool:
        """Whether the work is done. Raises its error, except Stopped."""
        if self._error is not None and not (isinstance(self._error, Stopped) and self._stop.asked()):
            raise self._error
        return self._done

    def __call__(self) -> None:
        """Raise TemporaryError, with the reason, until the work is done."""
        if not self._done:
            raise TemporaryError(self.reason, dependency=self._store.name)

    def _run(self) -> None:
        try:
            self._work(Waiting(self._stop, self._tell, patience=math.inf))
            self._done = True
        except BaseException as exc:  # noqa: BLE001 - raised again by `is_done`
            self._error = exc

    def _tell(self, reason: str) -> None:
        self.reason = f"the schema is being brought up to date: {reason}"
