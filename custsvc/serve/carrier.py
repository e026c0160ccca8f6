"""How granian calls the application: long answers go out on other threads, so that none occupies a lane."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from ..http.refusals import refuse
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
        answer = threading.Thread(
            target=self._proto.response_iter, args=(status, headers, body), name="stream", daemon=True
        )
        try:
            answer.start()
        except (RuntimeError, MemoryError):  # no thread can be started
            body.close()
            refuse(self._proto, "too-many-streams", ("retry-after", "5"))


def carry_streams(prepare: Callable[[Call], Call]) -> None:
    """Let granian's workers of this process write long answers on other threads.

    `prepare` wraps granian's function that calls the application.
    """
    from granian.server import mp as granian  # granian has no API for this; a test fails when it breaks

    mp: Any = granian
    original = mp._wsgi_call_wrap

    def wrap(callback: Any, *options: Any) -> Callable[[Any, Any], Any]:
        with _no_variables(sys.modules[original.__module__]):
            call = prepare(original(callback, *options))
        return lambda proto, scope: call(Carrier(proto), scope)

    mp._wsgi_call_wrap = wrap


@contextmanager
def _no_variables(module: Any) -> Iterator[None]:
    """Let granian put no environment variable into requests, where HTTP_PROXY would be a header of each."""
    theirs = module.os
    module.os = SimpleNamespace(environ={})
    try:
        yield
    finally:
        module.os = theirs
