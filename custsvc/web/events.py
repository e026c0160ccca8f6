"""The page of events: those of a customer from its history, or those of a time from Kafka."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson
from flask import Blueprint, render_template, request

from ..domain.customers import format_time, parse_time
from ..domain.received import decode, stated_time
from ..errors import BadEvent, CustsvcError, NewerSchema
from ..http.problems import NO_KAFKA
from .access import route, services
from .one import number_of
from .times import time_of

if TYPE_CHECKING:
    from ..kafka.formats import Events
    from .topics import Found

_PATH: Final = "/ui/events"
_SHOWN: Final = 25
_NAMES: Final = ("customer", "from", "until", "older")


@dataclass(slots=True)
class _Asked:
    """What the address asks for; `wrong` are its fields that could not be understood."""

    given: dict[str, str]
    customer: int | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def of_request(cls) -> _Asked:
        given = {name: text for name in _NAMES if (text := request.args.get(name, "").strip()[:200])}
        asked = cls(given)
        if "customer" in given:
            asked.customer = number_of(given["customer"].removeprefix("#"))
            if asked.customer is None:
                asked.wrong.append(f"{given['customer']} is not the number of a customer")
        asked.since, asked.until = asked._time("from"), asked._time("until")
        return asked

    def _time(self, name: str) -> dt.datetime | None:
        if name not in self.given:
            return None
        if (time := time_of(self.given[name])) is None:
            self.wrong.append(f"{self.given[name]} is not a time like 2026-11-23T20:40")
        return time

    def href(self, older: str | None) -> str | None:
        """The address of the older events of the same question."""
        if older is None:
            return None
        return f"{_PATH}?{urlencode({**self.given, 'older': older})}"


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, index)


def index() -> Any:
    """The events that the address asks for, newest first, at most 25 a page."""
    asked = _Asked.of_request()
    events: list[dict[str, Any]] = []
    older, problem = None, "; ".join(asked.wrong)
    if not problem:
        try:
            events, older = _of_customer(asked) if asked.customer else _of_time(asked)
        except CustsvcError as exc:
            problem = str(exc)
    return render_template(
        "pipeline/events.html",
        asked=asked,
        events=events,
        older=asked.href(older),
        problem=problem,
        is_first="older" not in asked.given,
    )


def _of_customer(asked: _Asked) -> tuple[list[dict[str, Any]], str | None]:
    """The customer's events from its history, and the version below which older ones are."""
    store, customer_id = services().store.customers, asked.customer or 0
    below = number_of(asked.given.get("older", ""))
    if below is None and asked.until is not None:
        newest = store.event_at(customer_id, asked.until)
        if newest is None:
            return [], None
        below = orjson.loads(newest)["version"] + 1
    found = store.history(customer_id, limit=_SHOWN + 1, before_version=below)
    events = [_shown(orjson.loads(event)) for event in found]
    if asked.since is not None:
        events = [event for event in events if parse_time(event["event_ts"]) >= asked.since]
    more = len(events) > _SHOWN
    return events[:_SHOWN], str(events[_SHOWN - 1]["version"]) if more else None


def _of_time(asked: _Asked) -> tuple[list[dict[str, Any]], str | None]:
    """The events that came to Kafka in this time, and the place from which older ones go on."""
    # Imported here because Kafka's client is big and most processes never need it.
    from ..kafka.formats import Events
    from .topics import between

    settings = services().settings
    if not settings.kafka:
        raise CustsvcError(NO_KAFKA)
    found = between(
        settings,
        settings.topic_updates,
        _SHOWN,
        since=asked.since,
        until=asked.until,
        older=asked.given.get("older"),
    )
    reader = Events(settings)
    events = [event for record in found.records if (event := of_record(record, reader))]
    return events, found.older


def of_record(record: Found, events: Events) -> dict[str, Any] | None:
    """What a page shows of an event; None if the record is not an event: anybody may write to the topic."""
    from ..kafka.record import record_time

    try:
        event = decode(events.json_of(record.value or b""), record.key)
    except (BadEvent, NewerSchema):
        return None
    stated = stated_time(event.event_ts)
    time = event.after["updated_on"] if stated is None else format_time(record_time(int(stated * 1000)))
    before = event.before if isinstance((event.before or {}).get("metadata"), dict) else None
    shown = {**event._asdict(), "event_ts": time, "before_change": before, "after_change": event.after}
    return {**shown, "place": f"partition {record.partition}, offset {record.offset}"}


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    """An event of the history with the name that the page shows."""
    return {**event, "place": ""}
