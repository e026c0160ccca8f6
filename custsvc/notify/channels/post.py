"""One HTTP receiver: calls over a kept connection, each with a deadline, each answer read to its end.

The client is urllib3, without proxies from the environment, redirects and retries. It lacks a deadline for a
whole call: a receiver that sends a byte now and then would block it for ever.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ...domain.address import host_name
from ...domain.text import words
from ...runtime.extras import needs
from .reachable import Reachable

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

# Bytes read of an answer; after a longer one the connection is closed.
_ANSWER_MAX: Final = 65536
# Statuses that have no body, whatever their headers say (RFC 9112, 6.3).
_BODILESS: Final = (204, 304)


class NoAnswer(Exception):
    """The receiver gave no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer: status, text, and how many seconds it asks us to wait."""

    status: int
    text: str
    retry_after: float


class Receiver:
    """A URL to call. Not thread-safe."""

    def __init__(self, url: str, timeout: float, reachable: Reachable | None = None) -> None:
        """`reachable` decides which addresses may be called; without it, all."""
        parts = urlsplit(url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout
        host = host_name(parts.hostname or "")
        self._new_pool = partial(_pool, parts.scheme, host, parts.port, timeout, self._watch, reachable)
        self._pool = self._new_pool()
        self._watched: socket.socket | None = None
        self._is_new = False
        self._is_late = False

    def post(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a POST request. Raises NoAnswer."""
        try:
            return self._call(body, headers)
        except Exception as exc:
            if self._is_new or self._is_late or not _was_closed(exc):
                raise self._no_answer(exc) from exc
        # Receivers close idle connections at any time; a new connection may still work.
        try:
            return self._call(body, headers)
        except Exception as exc:
            raise self._no_answer(exc) from exc

    def close(self) -> None:
        """Close the connection. The next call makes another one."""
        self._pool.close()
        # A closed pool accepts no further calls.
        self._pool = self._new_pool()

    def _no_answer(self, exc: Exception) -> NoAnswer:
        why = f"not within {self._timeout:g} s" if self._is_late else words(str(exc)) or type(exc).__name__
        return NoAnswer(f"no answer: {why}")

    def _call(self, body: bytes, headers: dict[str, str]) -> Answer:
        self._is_new = self._is_late = False
        with self._deadline():
            response = self._pool.urlopen(
                "POST",
                self._target,
                body,
                headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            # The status decides the outcome: an error while reading the rest does not change it.
            text = _rest(response)
        return Answer(response.status, text, _seconds(response.headers.get("retry-after")))

    # -- the deadline --------------------------------------------------------------------------------------

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        timer = threading.Timer(self._timeout, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            self._unwatch()

    def _watch(self, sock: socket.socket, *, is_new: bool) -> None:
        """Keep a way to cut this connection, even during the TLS handshake."""
        self._unwatch()
        self._is_new = self._is_new or is_new
        self._watched = socket.socket(fileno=os.dup(sock.fileno()))
        if self._is_late:
            self._cut()

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.close()
            self._watched = None

    def _cut(self) -> None:
        self._is_late = True
        if (watched := self._watched) is not None:
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)


def _pool(
    scheme: str,
    host: str,
    port: int | None,
    timeout: float,
    watch: Callable[..., None],
    reachable: Reachable | None,
) -> HTTPConnectionPool:
    """A pool of one kept connection, which is passed to `watch` before each use."""
    # Imported here: only installations with webhooks need it, and pay for it.
    with needs("channels"):
        import urllib3
        from urllib3.exceptions import NewConnectionError
        from urllib3.util.connection import create_connection

    kind = urllib3.HTTPSConnectionPool if scheme == "https" else urllib3.HTTPConnectionPool
    options: dict[str, Any] = {"ssl_context": ssl.create_default_context()} if scheme == "https" else {}
    pool = kind(host, port, maxsize=1, timeout=timeout, retries=False, **options)
    base: Any = pool.ConnectionCls

    class Watched(base):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            sock = self._checked() if reachable else super()._new_conn()
            watch(sock, is_new=True)
            return sock

        def _checked(self) -> socket.socket:
            """Connect to a checked address; TLS still checks the name."""
            error: OSError = OSError(f"{self.host} has no address")
            ends = time.monotonic() + timeout
            for address in reachable.addresses(self.host, self.port) if reachable else ():
                try:
                    left = max(0.1, ends - time.monotonic())
                    return create_connection((address, self.port), left, socket_options=self.socket_options)
                except OSError as exc:
                    error = exc
            raise NewConnectionError(self, str(error)) from error

        def request(self, *args: Any, **options: Any) -> None:
            if self.sock is not None:
                watch(self.sock, is_new=False)
            super().request(*args, **options)

    pool.ConnectionCls = Watched
    return pool


def _was_closed(exc: BaseException | None) -> bool:
    """Whether the receiver closed the connection, and was not just silent or wrong."""
    while exc is not None:
        if isinstance(exc, ConnectionError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _rest(response: BaseHTTPResponse) -> str:
    """The text of an answer. Afterwards the answer is read to its end, or the connection is closed."""
    headers = response.headers
    try:
        if response.status < 200 or response.status in _BODILESS:
            if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
                response.close()
            response.release_conn()
            return ""
        said = response.read(_ANSWER_MAX)
        if response.read(1):
            response.close()
        response.release_conn()
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the status counts
        response.close()
        return "(its words could not be read)"
    return words(said)


def _seconds(retry_after: str | None) -> float:
    """The seconds that Retry-After asks for, as a number or a date; 0 if it is neither."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        wait = (at if at.tzinfo else at.replace(tzinfo=dt.UTC)) - dt.datetime.now(dt.UTC)
        return max(0.0, wait.total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
