"""Has granian write long answers on threads of their own: no lane is held for as long as one takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..http.streams import takes_thread
from .bodies import Call


class Carrier:
    """Stands for the server's side of a request, and has a long answer written by a thread of its own."""

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

    `prepare` makes of granian's way to run the application the one that is to be taken.
    """
    from granian.server import mp as granian  # it offers no way of its own; a test tells when this breaks

    mp: Any = granian
    original = mp._wsgi_call_wrap

    def wrap(callback: Any, *options: Any) -> Callable[[Any, Any], Any]:
        call = prepare(original(callback, *options))
        return lambda proto, scope: call(Carrier(proto), scope)

    mp._wsgi_call_wrap = wrap
