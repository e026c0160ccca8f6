"""Lets granian write long answers on other threads, so that none occupies a lane."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..http.streams import takes_thread
from .bodies import Call


class Carrier:
    """A proxy for the server's side of a request that writes a long answer in its own thread."""

    __slots__ = ("_proto", "response_bytes")

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self.response_bytes = proto.response_bytes

    def response_iter(self, status: int, headers: Any, body: Any) -> None:
        if not takes_thread():
            self._proto.response_iter(status, headers, body)
            return
        threading.Thread(
            target=self._proto.response_iter, args=(status, headers, body), name="stream", daemon=True
        ).start()


def carry_streams(prepare: Callable[[Call], Call]) -> None:
    """Let granian's workers of this process write long answers on other threads.

    `prepare` wraps granian's function that calls the application.
    """
    from granian.server import mp as granian  # granian has no API for this; a test fails when it breaks

    mp: Any = granian
    original = mp._wsgi_call_wrap

    def wrap(callback: Any, *options: Any) -> Callable[[Any, Any], Any]:
        call = prepare(original(callback, *options))
        return lambda proto, scope: call(Carrier(proto), scope)

    mp._wsgi_call_wrap = wrap
