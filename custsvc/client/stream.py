"""The stream of events as an iterator: server-sent events, connected again where they were cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import httpx

from .errors import ApiError, EventsLost, Unavailable, error_of, retry_after, unreachable
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


def frames(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """The frames of a stream, in whatever pieces it comes. A frame that is cut off is left out.

    Lines end in LF, CR LF or CR and nothing else: JSON may hold other signs that Python takes for line ends.
    """
    kind, last, data = "", "", list[str]()
    for line in _lines(chunks):
        if not line:
            yield Frame(kind or "message", last, "\n".join(data) if data else None)
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        # A CR at the end may be half of a line end.
        whole = rest + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        *lines, rest = whole.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += held
        yield from (line.decode("utf-8", "replace") for line in lines)


class EventStream:
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
        self._http = http
        self._retry = retry
        self._asked = asked
        self._within = within
        self.position = after

    def __iter__(self) -> Iterator[Event]:
        pauses = self._retry.pauses()
        while True:
            response = self._connect()
            try:
                for event in self._events(response):
                    pauses = self._retry.pauses()
                    yield event
                logger.info("The event stream ended; connecting again", extra={"action": "reconnect"})
            except httpx.RequestError as exc:
                logger.info("The event stream was cut off: %s", exc, extra={"action": "reconnect"})
            finally:
                response.close()
            # Streams that end at once would otherwise be opened without a pause.
            self._retry.sleep(next(pauses))

    def _events(self, response: httpx.Response) -> Iterator[Event]:
        for frame in frames(response.iter_bytes()):
            if frame.kind == "lost":
                self.position = frame.id
                why = json.loads(frame.data or "{}").get("reason", "the server does not say why")
                raise EventsLost(f"events are lost: {why}", position=frame.id)
            if frame.data is not None and frame.kind == "message":
                event = Event.of(json.loads(frame.data), frame.id)
                # Noted first, so that a consumer that stops at this event has its position.
                self.position = frame.id
                yield event
            elif frame.id:
                self.position = frame.id

    def _connect(self) -> httpx.Response:
        """An open stream."""
        clock, until = self._retry.clock, None
        for pause in self._retry.pauses():
            found = self._try()
            if isinstance(found, httpx.Response):
                return found
            failed, wait = found
            until = until or clock() + (self._within if self._within is not None else float("inf"))
            wait = max(wait, pause)
            if not failed.temporary or clock() + wait >= until:
                raise failed
            logger.warning("The event stream waits: %s", failed, extra={"action": "wait"})
            self._retry.sleep(wait)
        raise AssertionError("there is always one more pause")

    def _try(self) -> httpx.Response | tuple[ApiError, float]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.position:
            headers["Last-Event-ID"] = self.position
        timeout = httpx.Timeout(self._retry.timeout, read=_SILENCE)
        request = self._http.build_request(
            "GET", _PATH, params=dict(self._asked), headers=headers, timeout=timeout
        )
        try:
            response = self._http.send(request, stream=True)
            if response.is_success:
                return response
            response.read()
        except httpx.RequestError as exc:
            failed: Unavailable = unreachable(exc, str(self._http.base_url.copy_with(userinfo=b"")))
            failed.__cause__ = exc
            return failed, 0.0
        return error_of(response), retry_after(response)
