"""What a role does with its database before it works: the schema is brought up to date, which may take long.

It happens in a thread of its own, so that signals are heard and probes are answered meanwhile.
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

# From the wish to stop to giving up on a server that still works at something: it finishes that alone.
_GRACE: Final = 5.0


class Preparing:
    """A piece of work on a database that is done before anything else, and where it is with it.

    `work` gets what to wait with. Calling this is a check of readiness: it raises until the work is done.
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
        """Do it, while signals are heard; False where stop was asked. Raises what went wrong."""
        self.start()
        while self._thread.is_alive() and not self._stop.asked():
            self.join(0.2)
        if self._stop.asked():
            self.join(_GRACE)
        return self.is_done()

    def join(self, seconds: float) -> None:
        """Wait, at most so long, until it is over."""
        self._thread.join(seconds)

    def is_done(self) -> bool:
        """Whether all is done. Raises what went wrong; to have been stopped is nothing wrong."""
        if self._error is not None and not (isinstance(self._error, Stopped) and self._stop.asked()):
            raise self._error
        return self._done

    def __call__(self) -> None:
        """Raises TemporaryError, with the reason, while it is not done."""
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
