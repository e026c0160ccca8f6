"""Sends a request until it is answered, for as long as the call may take.

A write carries an idempotency key, made once for the call: the server does it once, however often it is sent.
So a lost answer, a killed server and a proxy's 502 are all met alike: the same request again.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import httpx

from .errors import ApiError, Unavailable, error_of, retry_after, unreachable

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
# Failures before the first byte of a request was sent: the server has done nothing.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a call may take, in seconds, and how its tries are spread.

    `within` is for all tries together (0: one try), `timeout` for one of them. Pauses grow from `first` to
    `longest`, each shortened by chance so that a crowd of clients does not come back at once; a server's
    Retry-After is kept to.
    """

    within: float = 30.0
    timeout: float = 15.0
    first: float = 0.1
    longest: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def pauses(self) -> Iterator[float]:
        """The pause after the first try, the second …"""
        for attempt in count():
            # 2**60 times the first is more than any `longest`.
            most = min(self.longest, self.first * 2.0 ** min(attempt, 60))
            yield most * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


class Calls:
    """Calls to one server."""

    def __init__(self, http: httpx.Client, retry: Retry) -> None:
        self._http = http
        self.retry = retry

    @property
    def address(self) -> str:
        """The server's address, without what may be secret in it."""
        url = self._http.base_url
        return str(url.copy_with(userinfo=b"")).rstrip("/")

    def __call__(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        """The answer, a 2xx. Raises ApiError; Unavailable when the time is up."""
        until = self.retry.clock() + self.retry.within
        maybe_done = False
        for pause in self.retry.pauses():
            left = max(until - self.retry.clock(), 0.001) if self.retry.within else self.retry.timeout
            request = self._http.build_request(
                method,
                path,
                params=params,
                content=content,
                headers=dict(headers),
                timeout=min(self.retry.timeout, left),
            )
            failed, wait, sent = self._try(request)
            if isinstance(failed, httpx.Response):
                return failed
            maybe_done = maybe_done or sent
            wait = max(wait, pause)
            if not failed.temporary or self.retry.clock() + wait >= until:
                raise _given_up(failed, headers, maybe_done=maybe_done)
            self.retry.sleep(wait)
        raise AssertionError("there is always one more pause")

    def _try(self, request: httpx.Request) -> tuple[httpx.Response | ApiError, float, bool]:
        """The answer, or the error, the seconds to wait after it, and whether the server may have acted."""
        try:
            response = self._http.send(request)
        except httpx.RequestError as exc:
            failed = unreachable(exc, self.address)
            failed.__cause__ = exc
            if _is_certificate(exc) or isinstance(exc, httpx.UnsupportedProtocol):
                raise failed from exc
            return failed, 0.0, not isinstance(exc, _NOT_SENT)
        if response.is_success:
            return response, 0.0, True
        return error_of(response), retry_after(response), response.status_code not in (408, 429)


def _given_up(failed: ApiError, headers: Mapping[str, str], *, maybe_done: bool) -> ApiError:
    key = headers.get(IDEMPOTENCY_KEY)
    if isinstance(failed, Unavailable) and key is not None:
        failed.key, failed.maybe_done = key, maybe_done
    return failed


def _is_certificate(exc: BaseException | None) -> bool:
    """Whether the server's certificate was refused, which no repetition changes."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def json_of(response: httpx.Response) -> Any:
    """The JSON of an answer. Raises ApiError where another kind of server answers."""
    try:
        return response.json()
    except ValueError as exc:
        error = ApiError(f"{response.request.url.path} was answered, but not with JSON", status=200)
        error.fix = "check the address: CUSTSVC_API_URL, as http://localhost:8000"
        raise error from exc
