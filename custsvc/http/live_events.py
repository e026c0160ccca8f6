"""A live stream of events over HTTP: server-sent events that resume where a client left off."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final

import orjson

from ..domain.customers import INT64_MAX
from ..domain.events import APP_EVENT_TYPE
from .answer import Answer
from .messages import parameters, word_of
from .problems import Problem, bad_parameter, no_kafka
from .request import Request
from .resource import ApiResource

if TYPE_CHECKING:
    from ..kafka.feed import Entry, Place, Wanted

EVENT_STREAM: Final = "text/event-stream"
# Proxies and load balancers cut connections that are silent for a minute or less.
HEARTBEAT: Final = 15.0
# Milliseconds that a client waits before it reconnects.
_RETRY: Final = b"retry: 2000\n\n"
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),
)


class LiveEvents(ApiResource):
    """The events as they come, for the API's clients and for the pages."""

    heartbeat = HEARTBEAT

    def get(self, request: Request) -> Answer:
        given = parameters(request, "customer", "op", "from")
        # Imported here: Kafka's client is not small, and most processes never need it.
        from ..kafka.feed import frames

        wanted = _wanted(given)
        word_of(given, "from", ("beginning", "end"), "end")
        if not self.services.settings.kafka:
            raise no_kafka()
        feed = self.services.feed()
        with self.services.few_at_kafka(), feed.watch():
            place, lost = self._start(request, given)
        first = _RETRY + (_lost(place, lost) if lost else b"id: %b\n\n" % str(place).encode())
        events = self.services.streams.carried(
            lambda permit: chain((first,), frames(feed, place, wanted, permit, self.heartbeat)),
            *self.still_may(request),
        )
        return Answer(events, 200, _HEADERS, EVENT_STREAM)

    def _start(self, request: Request, given: dict[str, str]) -> tuple[Place, str]:
        feed = self.services.feed()
        from ..kafka.feed import Place

        if last := request.environ.get("HTTP_LAST_EVENT_ID"):
            if (place := Place.parse(last)) is None:
                raise Problem(400, "bad-header", "Last-Event-ID must be the id of an event of this stream")
            return feed.resume(place)
        if given.get("from") == "beginning":
            return feed.beginning(), ""
        return feed.end(), ""


def _lost(place: Place, why: str) -> bytes:
    """Report that events after the client's position are lost, and that the stream begins again."""
    return b"event: lost\nid: %b\ndata: %b\n\n" % (str(place).encode(), orjson.dumps({"reason": why}))


def _wanted(given: dict[str, str]) -> Wanted:
    customer_id, op = given.get("customer"), given.get("op")
    if customer_id is not None and not (
        re.fullmatch("[1-9][0-9]{0,18}", customer_id) and int(customer_id) <= INT64_MAX
    ):
        raise bad_parameter("customer", "must be the id of a customer")
    ops = set(op.split(",")) if op is not None else set(APP_EVENT_TYPE)
    if not ops <= set(APP_EVENT_TYPE):
        raise bad_parameter("op", f"must be some of {', '.join(APP_EVENT_TYPE)}")
    wanted_id = int(customer_id) if customer_id else None

    def wanted(entry: Entry) -> bool:
        return wanted_id in (None, entry.customer_id) and entry.op in ops

    return wanted
