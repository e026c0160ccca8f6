"""Transports from a client to an app in this process: one loses messages; a clock that only sleep moves."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import httpx

from custsvc.client import Client, Retry

URL: Final = "http://localhost"


class Clock:
    """Time that passes only by sleeping; `slept` holds the pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)

    def retry(self, **options: Any) -> Retry:
        return Retry(**{"within": 1000.0, "sleep": self.sleep, "clock": lambda: self.now, **options})


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


def scripted(*answers: Any, clock: Clock | None = None, **options: Any) -> tuple[Client, list[httpx.Request]]:
    """A client that gets these answers in turn, exceptions raised; and the requests it sends."""
    left, seen = iter(answers), list[httpx.Request]()

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else found(request)

    retry = (clock or Clock()).retry(**options)
    return Client(URL, transport=httpx.MockTransport(handle), retry=retry), seen
