"""Transports from a client to an app in this process: one loses messages; a clock that only sleep moves.

`Blocking` is an `AsyncClient` that the tests of the other client can use.
"""

from __future__ import annotations

import gzip
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, Literal

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx

from custsvc.client import AsyncClient, Client, Retry

URL: Final = "http://localhost"


class Clock:
    """Time that passes only by sleeping; `slept` holds the pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def retry(self, **options: Any) -> Retry:
        mine = {"sleep": self.sleep, "async_sleep": self.async_sleep, "clock": lambda: self.now}
        return Retry(**{"within": 1000.0, **mine, **options})


def problem(status: int, code: str, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    """An answer as the API gives it."""
    body = {"type": f"/problems/{code}", "status": status, "detail": f"it is {code}", "code": code, **members}
    return httpx.Response(
        status, json=body, headers={"Content-Type": "application/problem+json", **(headers or {})}
    )


class Faulty(httpx.BaseTransport):
    """Hands requests on, but meets each next one with the next of its faults."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx.WSGITransport(app)
        self.faults: Iterator[str] = iter(())
        self.seen: list[httpx.Request] = []

    def meets(self, faults: Iterable[str]) -> None:
        self.faults = iter(faults)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        fault = next(self.faults, "none")
        return FAULTS[fault](lambda: self._inner.handle_request(request))


Answer = Callable[[], httpx.Response]


def _no_connection(answer: Answer) -> httpx.Response:
    del answer
    raise httpx.ConnectError("connection refused")


def _lost_answer(answer: Answer) -> httpx.Response:
    answer().read()
    raise httpx.ReadError("connection reset by peer")


def _cut(answer: Answer) -> httpx.Response:
    answer().read()
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _too_late(answer: Answer) -> httpx.Response:
    answer().read()
    raise httpx.ReadTimeout("timed out")


def _garbled(answer: Answer) -> httpx.Response:
    answer().read()
    return httpx.Response(
        200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(gzip.compress(b"{}")[:-9])
    )


def _proxy(status: int, *, reached: bool) -> Callable[[Answer], httpx.Response]:
    def made(answer: Answer) -> httpx.Response:
        if reached:
            answer().read()
        return httpx.Response(status, text="<html>the proxy is sorry</html>")

    return made


FAULTS: Final[dict[str, Callable[[Answer], httpx.Response]]] = {
    "none": lambda answer: answer(),
    "no connection": _no_connection,
    "lost answer": _lost_answer,
    "cut": _cut,
    "too late": _too_late,
    "bad gateway": _proxy(502, reached=True),
    "gateway timeout": _proxy(504, reached=True),
    "proxy without server": _proxy(503, reached=False),
    "overloaded": lambda _: problem(503, "overloaded", {"Retry-After": "2"}),
    "rate-limited": lambda _: problem(429, "rate-limited", {"Retry-After": "7"}),
    "in flight": lambda _: problem(409, "idempotency-in-flight", {"Retry-After": "1"}),
    "crowded": lambda _: problem(409, "conflict"),
    "slow body": lambda _: problem(408, "body-timeout"),
}


Kind = Literal["Client", "AsyncClient"]
Scripted = Callable[..., tuple[Any, list[httpx.Request]]]


def client_of(kind: Kind, transport: httpx.BaseTransport, retry: Retry) -> Any:
    """A client over a transport; the asynchronous one for a test that knows nothing of loops."""
    if kind == "Client":
        return Client(URL, transport=transport, retry=retry)
    return Blocking(AsyncClient(URL, transport=InThread(transport), retry=retry))


def scripted(
    kind: Kind, *answers: Any, clock: Clock | None = None, **options: Any
) -> tuple[Any, list[httpx.Request]]:
    """A client that gets these answers in turn, exceptions raised; and the requests it sends."""
    left, seen = iter(answers), list[httpx.Request]()

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else found(request)

    retry = (clock or Clock()).retry(**options)
    return client_of(kind, httpx.MockTransport(handle), retry), seen


class InThread(httpx.AsyncBaseTransport):
    """A transport that blocks, for a client that must not."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await anyio.to_thread.run_sync(self._inner.handle_request, request)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=_Parts(answer))


class _Parts(httpx.AsyncByteStream):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._answer.stream, Iterable)
        for part in self._answer.stream:
            yield part

    async def aclose(self) -> None:
        self._answer.close()


class Blocking:
    """An `AsyncClient` as the tests of `Client` use it: every call waits for its end in a loop of its own."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = anyio.from_thread.start_blocking_portal()
        self._portal = self._loop.__enter__()

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *exc: object) -> None:
        self._portal.call(self._client.aclose)
        self._loop.__exit__(None, None, None)

    def __repr__(self) -> str:
        return repr(self._client)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return (lambda *args, **kwargs: self._called(found, args, kwargs)) if callable(found) else found

    def _called(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        async def call() -> Any:
            result = method(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        result = self._portal.call(call)
        return self._each(result) if hasattr(result, "__aiter__") else result

    def _each(self, found: Any) -> Iterator[Any]:
        each = aiter(found)
        while True:
            try:
                yield self._portal.call(lambda: anext(each))
            except StopAsyncIteration:
                return
