"""One HTTP receiver: calls over a kept connection, each with a deadline, each answer read to its end.

The client is urllib3, without proxies from the environment, redirects and retries. It lacks a deadline for a
whole call, and takes any informational answer (1xx) but 100 for the final one.
"""

from __future__ import annotations

import datetime as dt
import http.client
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ...domain.address import host_name
from ...domain.text import words
from ...runtime.extras import needs
from .deadline import Deadline
from .reachable import Reachable, look_up

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

# Bytes read of an answer; after a longer one the connection is closed.
_ANSWER_MAX: Final = 65536
# Seconds for what follows the status: that decides the outcome, the rest is an excerpt for people.
_REST: Final = 1.0
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
        """`timeout`: seconds for a call; `reachable` decides which addresses may be called, else all."""
        parts = urlsplit(url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._scheme, self._port = parts.scheme, parts.port
        self._host = host_name(parts.hostname or "")
        self._timeout = timeout
        self._addresses = reachable.addresses if reachable else look_up
        self._deadline = Deadline(timeout)
        self._is_new = False
        self._pool = self._new_pool()

    def post(self, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a POST request. Raises NoAnswer."""
        with Deadline(self._timeout) as self._deadline:
            try:
                return self._call(body, headers)
            except Exception as exc:
                if self._is_new or self._deadline.is_late or not _was_closed(exc):
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
        is_late = self._deadline.is_late
        why = f"not within {self._timeout:g} s" if is_late else words(str(exc)) or type(exc).__name__
        return NoAnswer(f"no answer: {why}")

    def _call(self, body: bytes, headers: dict[str, str]) -> Answer:
        self._is_new = False
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

    # -- the connection ------------------------------------------------------------------------------------

    def _new_pool(self) -> HTTPConnectionPool:
        """A pool of one kept connection, each of whose uses has the deadline of its call."""
        # Imported here: only installations with webhooks need it, and pay for it.
        with needs("channels"):
            import urllib3

        is_tls = self._scheme == "https"
        kind = urllib3.HTTPSConnectionPool if is_tls else urllib3.HTTPConnectionPool
        options: dict[str, Any] = {"ssl_context": ssl.create_default_context()} if is_tls else {}
        pool = kind(self._host, self._port, maxsize=1, timeout=self._timeout, retries=False, **options)
        receiver, base = self, pool.ConnectionCls

        class Watched(base):  # type: ignore[misc, valid-type]
            response_class = _answer_class(lambda: receiver._deadline.shorten(_REST))

            def _new_conn(self) -> socket.socket:
                sock = receiver._connected(self)
                receiver._is_new = True
                receiver._deadline.watch(sock)
                return sock

            def request(self, *args: Any, **options: Any) -> None:
                if self.sock is not None:
                    receiver._deadline.watch(self.sock)
                super().request(*args, **options)

        pool.ConnectionCls = Watched
        return pool

    def _connected(self, connection: Any) -> socket.socket:
        """Connect to one of the addresses, which share the time that is left; TLS still checks the name."""
        from urllib3.exceptions import NewConnectionError
        from urllib3.util.connection import create_connection

        host, port = connection.host, connection.port
        addresses = self._deadline.within(lambda: self._addresses(host, port))
        error: OSError = OSError(f"{host} has no address")
        for number, address in enumerate(addresses):
            share = self._deadline.left / (len(addresses) - number)
            if share == 0.0:
                break
            try:
                return create_connection((address, port), share, socket_options=connection.socket_options)
            except OSError as exc:
                error = exc
        raise NewConnectionError(connection, str(error)) from error


def _answer_class(on_status: Callable[[], None]) -> type[http.client.HTTPResponse]:
    """Answers that call `on_status` at their final status, and pass over what comes before it."""

    class FinalAnswer(http.client.HTTPResponse):
        is_known = False

        def _read_status(self) -> tuple[str, int, str]:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            # Nobody asked to switch protocols, so 101 is final; `begin` passes over 100 itself.
            while 101 < status < 200:
                http.client.parse_headers(self.fp)
                version, status, reason = super()._read_status()  # type: ignore[misc]
            if status >= 200:
                self.is_known = True
                on_status()
            return version, status, reason

        def begin(self) -> None:
            try:
                super().begin()
            except (OSError, http.client.HTTPException):
                if not self.is_known:
                    raise
                # Without readable headers: the status decides the outcome.
                self.headers = self.msg = http.client.HTTPMessage()
                self.chunked, self.length, self.will_close = False, 0, True

    return FinalAnswer


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
    if response.status < 200 or response.status in _BODILESS:
        if (
            response.status < 200
            or "transfer-encoding" in headers
            or headers.get("content-length", "0") != "0"
        ):
            response.close()
        response.release_conn()
        return ""
    said = b""
    try:
        while len(said) <= _ANSWER_MAX and (some := response.read1(_ANSWER_MAX)):
            said += some
        if len(said) > _ANSWER_MAX:
            response.close()
        response.release_conn()
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the status counts
        response.close()
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
