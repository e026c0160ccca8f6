"""What both clients do around a call: addresses, headers, positions, and the tries of a call. No I/O."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import httpx

from .. import __version__
from ..errors import ConfigurationError
from .calls import Call
from .errors import ApiError, Unavailable, error_of, retry_after, unreachable
from .positions import Positions
from .retry import IDEMPOTENCY_KEY, URL_FIX, Retry

# A copy waits no longer for what it has not got yet; beyond that it is asked again.
COPY_WAITS: Final = "wait=5"
# Failures before the first byte of a request was sent: the server has done nothing.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_KEY_FIX: Final = "give it as `custsvc keys create` printed it: csk_…"

T = TypeVar("T")
M = TypeVar("M", bound=Callable[..., Any])


class Base:
    """What a client has beside connections. `addresses`: of the source, and of the copy if there is one."""

    def __init__(
        self, url: str, key: str | None, copy: str | None, retry: Retry | None, positions: Positions | None
    ) -> None:
        self.addresses = [_address(each) for each in (url, *([copy] if copy else []))]
        self.headers = _headers(key)
        self.retry = retry or Retry()
        self.positions = positions or Positions()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self.addresses[0])!r})"

    def place(self, call: Call[Any]) -> int:
        """Which address answers a call: that of the source, or -1 for the last one, which may be a copy."""
        return 0 if call.position is None else -1

    def begun(self, call: Call[Any]) -> Attempts:
        """The tries of a call."""
        headers = dict(call.headers)
        if call.position and (position := call.position(self.positions)):
            # To the source too: it may let a stand-by answer.
            headers |= {"X-Custsvc-Min-Position": position}
            if len(self.addresses) > 1:
                headers |= {"Prefer": COPY_WAITS}
        return Attempts(call, headers, self.retry, self.addresses[self.place(call)])

    def ended(self, call: Call[T], response: httpx.Response) -> T:
        """The result of a call, whose write is noted."""
        self.positions.add(response.headers.get("x-custsvc-position", ""))
        result = call.read(response)
        if call.versions is not None:
            self.positions.note(call.versions(result))
        return result


class Attempts:
    """The tries of one call: what each sends, and how long to wait after one that failed.

    Raises ApiError where it is of no use to try again; Unavailable when the time is up.
    """

    def __init__(self, call: Call[Any], headers: Mapping[str, str], retry: Retry, address: httpx.URL) -> None:
        self._call = call
        self._headers = dict(headers)
        self._retry = retry
        self._address = address
        self._until = retry.clock() + retry.within
        self._pauses = retry.pauses()
        self._maybe_done = False

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request of the next try."""
        retry = self._retry
        left = max(self._until - retry.clock(), 0.001) if retry.within else retry.timeout
        return http.build_request(
            self._call.method,
            self._call.path,
            params=self._call.params,
            content=self._call.content,
            headers=self._headers,
            timeout=min(retry.timeout, left),
        )

    def lost(self, exc: httpx.RequestError) -> float:
        """The seconds to wait after a request without an answer."""
        failed = unreachable(exc, shown(self._address))
        failed.__cause__ = exc
        if _is_certificate(exc) or isinstance(exc, httpx.UnsupportedProtocol):
            raise failed from exc
        return self._pause(failed, 0.0, sent=not isinstance(exc, _NOT_SENT))

    def refused(self, response: httpx.Response) -> float:
        """The seconds to wait after an answer that is no success."""
        is_done = response.status_code not in (408, 429)
        return self._pause(error_of(response), retry_after(response), sent=is_done)

    def _pause(self, failed: ApiError, wait: float, *, sent: bool) -> float:
        self._maybe_done = self._maybe_done or sent
        wait = max(wait, next(self._pauses))
        if not failed.temporary or self._retry.clock() + wait >= self._until:
            raise self._given_up(failed)
        return wait

    def _given_up(self, failed: ApiError) -> ApiError:
        key = self._headers.get(IDEMPOTENCY_KEY)
        if isinstance(failed, Unavailable) and key is not None:
            failed.key, failed.maybe_done = key, self._maybe_done
        return failed


def described_as(method: M, make: Callable[..., Any]) -> M:
    """A client's method that sends what `make` makes, with the name, text and parameters of that."""
    signature = inspect.signature(make)
    myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    result = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__name__, method.__doc__ = make.__name__, make.__doc__
    method.__dict__["__signature__"] = signature.replace(
        parameters=[myself, *signature.parameters.values()], return_annotation=result
    )
    return method


def shown(url: httpx.URL) -> str:
    """An address without what may be secret in it."""
    return str(url.copy_with(userinfo=b"")).rstrip("/")


def _is_certificate(exc: BaseException | None) -> bool:
    """Whether the server's certificate was refused, which no repetition changes."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as exc:
        raise ConfigurationError(f"the API's address cannot be read: {exc}", fix=URL_FIX) from exc
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{text!r} is not the address of an API", fix=URL_FIX)
    return url


def _headers(key: str | None) -> dict[str, str]:
    headers = {"User-Agent": f"custsvc-client/{__version__}"}
    if key is not None:
        key = key.strip()
        if not key.isascii() or not key.isprintable() or " " in key or not key:
            raise ConfigurationError("the API key is empty, or holds what no key holds", fix=_KEY_FIX)
        headers["Authorization"] = f"Bearer {key}"
    return headers
