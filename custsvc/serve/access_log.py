"""The access log: a line for each answered request, with names and numbers but no content.

A line names the route's pattern and never the path or the query, so it holds no personal data: method, route,
status, duration, bytes of the body, the request's id and trace, and the name of the key or user.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from ..config import Settings
from ..http.answer import Answer
from ..http.request import Request
from .measure import method_of, route_of

logger = logging.getLogger(__name__)


def access_log(settings: Settings) -> AccessLog | None:
    """The access log if it is wanted, or if everything is logged."""
    return AccessLog() if settings.access_log or settings.log_level == "DEBUG" else None


class AccessLog:
    """Writes the lines."""

    def __call__(self, request: Request, route: str | None, answer: Answer) -> None:
        """Log an answer; a streamed one when its last part was written, or when the client has left."""
        body = answer.body
        if request.method == "HEAD":
            _write(request, route, answer.status, 0)
        elif isinstance(body, bytes):
            _write(request, route, answer.status, len(body))
        else:
            answer.body = _Counted(body, partial(_write, request, route, answer.status))


class _Counted:
    """An answer's parts, counted while they are written."""

    __slots__ = ("_bytes", "_is_open", "_log", "_parts")

    def __init__(self, parts: Iterator[bytes], log: Callable[[int], None]) -> None:
        self._parts = parts
        self._log = log
        self._bytes = 0
        self._is_open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        self._bytes += len(part)
        return part

    def close(self) -> None:
        """Close the parts and log the answer. The server calls it at the end, whatever happened."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if (close := getattr(self._parts, "close", None)) is not None:
                close()
        finally:
            self._log(self._bytes)


def refused(status: int, code: str) -> None:
    """Log a request that was answered before the app saw it."""
    logger.info("Refused %d", status, extra={"action": "request", "status": status, "code": code})


def _write(request: Request, route: str | None, status: int, size: int) -> None:
    method, pattern = method_of(request), route_of(route) or "/"
    about = {
        "action": "request",
        "method": method,
        "route": pattern,
        "status": status,
        "ms": round((time.perf_counter() - request.began) * 1000, 2),
        "bytes": size,
        "request_id": request.id,
        "actor": request.principal.name,
    }
    if request.traceparent is not None:
        about["traceparent"] = request.traceparent
    logger.info("%s %s %d", method, pattern, status, extra=about)
