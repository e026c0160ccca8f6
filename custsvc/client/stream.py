"""The stream of events as an iterator: server-sent events, connected again where they were cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import httpx

from .errors import ApiError, EventsLost, error_of, retry_after, unreachable
from .models import Event
from .retry import Retry

logger = logging.getLogger(__name__)

_PATH: Final = "/api/events/stream"
# The server says something every 15 seconds; a connection that is silent for longer is dead.
_SILENCE: Final = 45.0


class Frame(NamedTuple):
    """One server-sent event: its kind, the id of the stream at its end, and its data; None without data."""

    kind: str
    id: str
    data: str | None


class Frames:
    """Takes a stream apart, in whatever pieces it comes. A frame that is cut off is left out.

    Lines end in LF, CR LF or CR and nothing else: JSON may hold other signs that Python takes for line ends.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._kind, self._last = "", ""
        self._data: list[str] = []

    def of(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that end in the next piece."""
        for line in self._lines(chunk):
            if line:
                self._take(line)
                continue
            yield Frame(self._kind or "message", self._last, "\n".join(self._data) if self._data else None)
            self._kind, self._data = "", []

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._last = value

    def _lines(self, chunk: bytes) -> list[str]:
        # A CR at the end may be half of a line end.
        whole = self._rest + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        text = whole.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        return [line.decode("utf-8", "replace") for line in lines]


def asked_for(*, from_beginning: bool, customer: int | None, ops: Sequence[str]) -> dict[str, str]:
    """The parameters of a stream."""
    asked = {"from": "beginning"} if from_beginning else {}
    asked |= {"customer": str(customer)} if customer is not None else {}
    return asked | ({"op": ",".join(ops)} if ops else {})


class _Stream:
    """What both streams share: the position, the request, and when to connect again. No I/O."""

    def __init__(
        self,
        address: httpx.URL,
        retry: Retry,
        asked: Mapping[str, str],
        after: str | None,
        within: float | None,
    ) -> None:
        self._address = address
        self._retry = retry
        self._asked = asked
        self._within = within
        self.position = after
        # Between streams that end at once, and between tries to connect.
        self._pauses = retry.pauses()
        self._tries = retry.pauses()
        self._until: float | None = None

    def _request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.position:
            headers["Last-Event-ID"] = self.position
        timeout = httpx.Timeout(self._retry.timeout, read=_SILENCE)
        return http.build_request("GET", _PATH, params=dict(self._asked), headers=headers, timeout=timeout)

    def _events(self, found: Iterable[Frame]) -> Iterator[Event]:
        """The events of frames; moves the position. Raises EventsLost."""
        for frame in found:
            if frame.kind == "lost":
                self.position = frame.id
                why = json.loads(frame.data or "{}").get("reason", "the server does not say why")
                raise EventsLost(f"events are lost: {why}", position=frame.id)
            if frame.data is not None and frame.kind == "message":
                event = Event.of(json.loads(frame.data), frame.id)
                # Noted first, so that a consumer that stops at this event has its position.
                self.position = frame.id
                self._pauses = self._retry.pauses()
                yield event
            elif frame.id:
                self.position = frame.id

    def _opened(self) -> None:
        """Note that there is a connection."""
        self._tries, self._until = self._retry.pauses(), None

    def _ended(self, exc: httpx.RequestError | None) -> float:
        """The seconds until the next connection after one that ended, or was cut off."""
        why = "ended" if exc is None else f"was cut off: {exc}"
        logger.info("The event stream %s; connecting again", why, extra={"action": "reconnect"})
        return next(self._pauses)

    def _lost(self, exc: httpx.RequestError) -> float:
        """The seconds until the next try to connect after one without an answer."""
        failed = unreachable(exc, str(self._address.copy_with(userinfo=b"")))
        failed.__cause__ = exc
        return self._wait(failed, 0.0)

    def _refused(self, response: httpx.Response) -> float:
        """The seconds until the next try to connect after one that was refused."""
        return self._wait(error_of(response), retry_after(response))

    def _wait(self, failed: ApiError, wait: float) -> float:
        clock = self._retry.clock
        if self._until is None:
            self._until = clock() + (self._within if self._within is not None else float("inf"))
        wait = max(wait, next(self._tries))
        if not failed.temporary or clock() + wait >= self._until:
            raise failed
        logger.warning("The event stream waits: %s", failed, extra={"action": "wait"})
        return wait


class EventStream(_Stream):
    """Events as they happen. Iterate once; `position` is where a later stream goes on (`after`).

    Raises EventsLost where the topic no longer holds what came after the position, Unavailable after `within`
    seconds without a connection, and ApiError where the server refuses.
    """

    def __init__(
        self,
        http: httpx.Client,
        retry: Retry,
        asked: Mapping[str, str],
        after: str | None,
        within: float | None,
    ) -> None:
        super().__init__(http.base_url, retry, asked, after, within)
        self._http = http

    def __iter__(self) -> Iterator[Event]:
        while True:
            response, cut, taken = self._connect(), None, Frames()
            try:
                for chunk in response.iter_bytes():
                    yield from self._events(taken.of(chunk))
            except httpx.RequestError as exc:
                cut = exc
            finally:
                response.close()
            self._retry.sleep(self._ended(cut))

    def _connect(self) -> httpx.Response:
        while True:
            try:
                response = self._http.send(self._request(self._http), stream=True)
                if response.is_success:
                    self._opened()
                    return response
                response.read()
            except httpx.RequestError as exc:
                pause = self._lost(exc)
            else:
                pause = self._refused(response)
            self._retry.sleep(pause)


class AsyncEventStream(_Stream):
    """`EventStream` for `async for`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        retry: Retry,
        asked: Mapping[str, str],
        after: str | None,
        within: float | None,
    ) -> None:
        super().__init__(http.base_url, retry, asked, after, within)
        self._http = http

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            response, cut, taken = await self._connect(), None, Frames()
            try:
                async for chunk in response.aiter_bytes():
                    for event in self._events(taken.of(chunk)):
                        yield event
            except httpx.RequestError as exc:
                cut = exc
            finally:
                await response.aclose()
            await self._retry.async_sleep(self._ended(cut))

    async def _connect(self) -> httpx.Response:
        while True:
            try:
                response = await self._http.send(self._request(self._http), stream=True)
                if response.is_success:
                    self._opened()
                    return response
                await response.aread()
            except httpx.RequestError as exc:
                pause = self._lost(exc)
            else:
                pause = self._refused(response)
            await self._retry.async_sleep(pause)
