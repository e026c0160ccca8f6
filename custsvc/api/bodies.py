"""Bodies that do not come: nobody else waits for them, and nobody waits for ever.

Granian hands a request to a thread as soon as its head is there, and reading the body then waits for the
client. So bodies are read before a request takes one of the few lanes in which requests are worked on, by
threads of which there are many more. A body that has not come by the deadline is answered 408, and the client
told that the connection closes; when the client, or the network for it, has closed it, its thread is free.
Beyond so many bodies that are waited for, more are refused at once, and what needs no body goes on. A client
that means harm does not close: on an open net a proxy that buffers requests belongs in front.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from .refusals import refuse

Call = Callable[[Any, Any], Any]

# Longer ones are read by who takes them, as they come: imports, by callers whose key is known by then.
_READ_MAX: Final = 1024 * 1024
_IMPORT: Final = "/api/customers/import"
_LOOK_EVERY: Final = 0.2


class _Waiting:
    """A request whose body is awaited. Whoever claims it first answers it, and nobody else does."""

    __slots__ = ("_claim", "began", "dawdles", "proto")

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.began = time.monotonic()
        self.dawdles = False
        self._claim = threading.Lock()

    def claim(self) -> bool:
        return self._claim.acquire(blocking=False)


class Bodies:
    """Reads the bodies of a worker's requests before they are worked on, each within `timeout` seconds.

    At most `most` are waited for at once, for each of which the server needs a thread. `dawdling` is told how
    many more are found to take their time.
    """

    def __init__(self, most: int, timeout: float, dawdling: Callable[[int], None]) -> None:
        self._most = most
        self._timeout = timeout
        self._dawdling = dawdling
        self._waiting: set[_Waiting] = set()
        threading.Thread(target=self._watch, name="body-watch", daemon=True).start()

    def wrap(self, call: Call) -> Call:
        """`call`, granian's way to run the application, with the body read."""

        def run(proto: Any, scope: Any) -> Any:
            size = _to_read(scope)
            return call(proto, scope) if size == 0 or self._read(proto, scope, size) else None

        return run

    def _read(self, proto: Any, scope: Any, size: int) -> bool:
        """Whether the body is there now; if not, the request has been answered."""
        if len(self._waiting) >= self._most:
            refuse(proto, "overloaded", ("retry-after", "2"), ("connection", "close"))
            return False
        waiting = _Waiting(proto)
        self._waiting.add(waiting)
        try:
            scope["wsgi.input"] = BytesIO(scope["wsgi.input"].read(size))
        finally:
            self._waiting.discard(waiting)
        return waiting.claim()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            dawdling = 0
            for waiting in self._waiting.copy():
                if waiting.began + self._timeout < now and waiting.claim():
                    self._waiting.discard(waiting)
                    refuse(waiting.proto, "body-timeout", ("connection", "close"))
                elif not waiting.dawdles and waiting.began + _LOOK_EVERY < now:
                    waiting.dawdles = True
                    dawdling += 1
            if dawdling:
                self._dawdling(dawdling)


def _to_read(scope: Any) -> int:
    """How much of the body is read before the request is worked on; 0 for nothing."""
    length = scope.get("CONTENT_LENGTH")
    if length is None:
        chunked = "HTTP_TRANSFER_ENCODING" in scope and not scope["PATH_INFO"].startswith(_IMPORT)
        return _READ_MAX + 1 if chunked else 0  # one more than is taken, so that it is seen to be too long
    return int(length) if length.isdigit() and int(length) <= _READ_MAX else 0
