"""The pages of the pipeline: its live picture, what needs a person, and the stream of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
from flask import Blueprint, Response, render_template

from ..errors import CustsvcError, NotFound
from ..http.framework import request_at_hand, response_of
from ..http.live_events import LiveEvents
from ..http.problems import NO_KAFKA
from ..http.request import Request
from ..http.resource import Services
from ..stores import open_store
from . import proving
from .access import has_copy, route, services, still_may, web
from .events import of_record

if TYPE_CHECKING:
    from ..kafka.feed import Place

_EVENTS: Final = 25


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/pipeline", show)
    route(blueprint, "/ui/pipeline/picture", picture)
    route(blueprint, "/ui/pipeline/needs", needs_person)
    route(blueprint, "/ui/activity", activity)
    route(blueprint, "/ui/events/stream/<place>", stream)
    route(blueprint, "/ui/customers/<id:customer_id>/way", way)


def show() -> Any:
    return render_template("pipeline/show.html", picture=web().monitor.look(), **proving.state())


def picture() -> Any:
    return render_template("pipeline/picture.html", picture=web().monitor.look())


def needs_person() -> Any:
    """What waits for a person, counted; its own fragment, since reading the dead letters takes a moment."""
    return render_template("pipeline/needs.html", found=web().attention.look())


def activity() -> Any:
    """The newest events; the page's script continues with the stream after them."""
    events, problem, place = [], None, ""
    try:
        if services().settings.kafka:
            from ..kafka.formats import Events
            from .topics import newest

            found = newest(services().settings, services().settings.topic_updates, _EVENTS)
            reader = Events(services().settings)
            events = [event for record in found.records if (event := of_record(record, reader))]
            place = found.place
        else:
            problem = NO_KAFKA
    except CustsvcError as exc:
        problem = str(exc)
    return render_template("pipeline/activity.html", events=events, problem=problem, place=place)


class _PageStream(LiveEvents):
    """The stream of events for a signed-in browser; it ends with the session."""

    def __init__(self, services: Services, place: str) -> None:
        super().__init__(services)
        self._place = place

    def still_may(self, request: Request) -> tuple[Callable[[], bool], str | None]:
        del request
        return still_may()

    def _start(self, request: Request, given: dict[str, str]) -> tuple[Place, str]:
        """Start after the page's last event; after a reconnect, after the last event received."""
        from ..kafka.feed import Place

        begin = Place.parse(self._place)
        if "HTTP_LAST_EVENT_ID" in request.environ or begin is None:
            return super()._start(request, given)
        return self.services.feed().resume(begin)


def stream(place: str) -> Response:
    """The events after `place`, as they come."""
    return response_of(_PageStream(services(), place).get(request_at_hand()))


def way(customer_id: int) -> Any:
    """How far the last change of a customer has travelled: the outbox, Kafka, the copy."""
    stored = services().store.customers.get(customer_id)
    if stored is None:
        raise NotFound(f"there is no customer {customer_id}")
    (event,) = services().store.customers.history(customer_id, limit=1)
    changed = orjson.loads(event)
    record, copied, problems = None, None, []
    settings = services().settings
    if settings.kafka:
        from .topics import where_is

        try:
            record = where_is(settings, customer_id, stored.version, changed["event_ts"])
        except CustsvcError as exc:
            problems.append(str(exc))
    try:
        copied = _version_in_copy(customer_id)
    except CustsvcError as exc:
        problems.append(str(exc))
    is_there = copied is not None and copied >= stored.version
    return render_template(
        "pipeline/way.html",
        customer_id=customer_id,
        version=stored.version,
        event=changed,
        record=record,
        copied=copied,
        copy_name=settings.other_backend,
        has_copy=has_copy(),
        has_kafka=bool(settings.kafka),
        problems=problems,
        arrived=(record is not None or not settings.kafka) and (is_there or not has_copy()),
    )


def _version_in_copy(customer_id: int) -> int | None:
    if not has_copy():
        return None
    with open_store(services().settings, services().settings.other_backend) as copy:
        rows = copy.contents.rows([customer_id])
    return rows[0].version if rows else None
