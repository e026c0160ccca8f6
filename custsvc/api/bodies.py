"""Bodies that do not come: the thread that waits for one is given back at the deadline.

A WSGI server hands a request to one of its few threads as soon as its head is there, and reading the body
then waits for the client. Where the body has not come by the deadline, the client is answered 408 and told
that the connection closes; when the client, or the network for it, has closed it, the thread is free. A
client that means harm does not close: on an open net a proxy that buffers requests belongs in front.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import orjson

from .codes import CODES

Call = Callable[[Any, Any], Any]

# Longer bodies are read by whoever takes them, as they come: imports.
_READ_MAX: Final = 1024 * 1024
_LOOK_EVERY: Final = 0.5


class _Waiting:
    """A request whose body is awaited. Whoever claims it first answers it, and nobody else does."""

    __slots__ = ("_claim", "deadline", "proto")

    def __init__(self, proto: Any, deadline: float) -> None:
        self.proto = proto
        self.deadline = deadline
        self._claim = threading.Lock()

    def claim(self) -> bool:
        return self._claim.acquire(blocking=False)


class Bodies:
    """Reads the bodies of a worker's requests before they are worked on, each within `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._waiting: set[_Waiting] = set()
        threading.Thread(target=self._watch, name="body-watch", daemon=True).start()

    def wrap(self, call: Call) -> Call:
        """`call`, granian's way to run the application, with the body read."""

        def run(proto: Any, scope: Any) -> Any:
            length = scope.get("CONTENT_LENGTH")
            if not length or not length.isdigit() or int(length) > _READ_MAX:
                return call(proto, scope)
            waiting = _Waiting(proto, time.monotonic() + self._timeout)
            self._waiting.add(waiting)
            try:
                scope["wsgi.input"] = BytesIO(scope["wsgi.input"].read(int(length)))
            finally:
                self._waiting.discard(waiting)
            return call(proto, scope) if waiting.claim() else None

        return run

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            for waiting in self._waiting.copy():
                if waiting.deadline < now and waiting.claim():
                    self._waiting.discard(waiting)
                    _refuse(waiting.proto)


def _refuse(proto: Any) -> None:
    about = CODES["body-timeout"]
    body = {
        "type": "/problems/body-timeout",
        "title": about.title,
        "status": about.status,
        "detail": about.cause,
        "code": "body-timeout",
        "request_id": None,
    }
    text = orjson.dumps(body)
    headers = [
        ("content-type", "application/problem+json"),
        ("content-length", str(len(text))),
        ("connection", "close"),
    ]
    proto.response_bytes(about.status, headers, text)
