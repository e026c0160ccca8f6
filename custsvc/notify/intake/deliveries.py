"""Turns an event into the deliveries that endpoints ask for, with ids that are the same on every read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import orjson

from ...domain.customers import format_time
from ...domain.received import ReceivedEvent
from ...domain.requests import valid_request_id
from ...domain.text import one_line
from ...ports.endpoints import Endpoint
from ...ports.ledger import Notification
from ..rules.asked import Wrong, conditions
from ..rules.rules import Condition, Rule
from .ids import notification_id

logger = logging.getLogger(__name__)

RULE: Final = "webhook"
TEST: Final = "test"
_ID_MAX: Final = 200


def deliveries_of(
    event: ReceivedEvent,
    happened: float | None,
    endpoints: Sequence[Endpoint],
    slack: float,
    traceparent: str | None = None,
) -> list[Notification]:
    """The deliveries that an event requires: one for each endpoint that asks for it, paused or not.

    An endpoint gets nothing that happened more than `slack` seconds before it was made. Changes made in bulk
    are as any other: a mail flood is for people. `traceparent` is that of the event's record.
    """
    return [
        _delivery(event, endpoint, traceparent)
        for endpoint in endpoints
        if _rule(endpoint).matches(event) and not _before(endpoint, happened, slack)
    ]


def test_delivery(endpoint: Endpoint, asked: dt.datetime) -> Notification:
    """The test that was asked for then."""
    body = {"type": "webhook.test", "timestamp": format_time(asked), "data": {"webhook": endpoint.id}}
    return _row(endpoint, test_event_id(endpoint.id, asked), None, 0, TEST, orjson.dumps(body).decode())


def test_id(endpoint_id: str, channel: str, asked: dt.datetime) -> str:
    """The id of the test delivery that was asked for then, known before it is queued."""
    return notification_id(test_event_id(endpoint_id, asked), RULE, channel)


def test_event_id(endpoint_id: str, asked: dt.datetime) -> str:
    """What a test delivery names as its event."""
    return f"{TEST}/{endpoint_id}/{asked.isoformat()}"


def _delivery(event: ReceivedEvent, endpoint: Endpoint, traceparent: str | None) -> Notification:
    event_id = one_line(event.id, _ID_MAX) or f"{event.customer_id}.{event.version}"
    text = event.value if endpoint.payload == "event" else _state(event)
    row = _row(endpoint, event_id, event.customer_id, event.version, event.op, text.decode())
    request_id = valid_request_id(event.request_id)
    return dataclasses.replace(row, request_id=request_id, traceparent=traceparent)


def _row(
    endpoint: Endpoint, event_id: str, customer_id: int | None, version: int, subject: str, text: str
) -> Notification:
    channel = endpoint.channel
    return Notification(
        id=notification_id(event_id, RULE, channel),
        event_id=event_id,
        customer_id=customer_id,
        version=version,
        rule=RULE,
        recipient=channel,
        subject=subject,
        text=text,
        html=None,
        channel=channel,
    )


def _state(event: ReceivedEvent) -> bytes:
    """The customer as the event left it, in the envelope that Standard Webhooks recommends."""
    return orjson.dumps(
        {
            "type": f"customer.{event.op}",
            "timestamp": event.event_ts,
            "data": orjson.Fragment(event.doc()),
        }
    )


def _before(endpoint: Endpoint, happened: float | None, slack: float) -> bool:
    made = endpoint.created_on
    return happened is not None and made is not None and happened < made.timestamp() - slack


def _rule(endpoint: Endpoint) -> Rule:
    """What an endpoint asks for, as a rule."""
    return Rule(
        name=RULE,
        ops=frozenset(endpoint.ops),
        template="",
        changed=frozenset(endpoint.changed),
        when=_conditions(endpoint.conditions),
        channel=endpoint.channel,
        bulk=True,
    )


@lru_cache(maxsize=1000)
def _conditions(text: str) -> tuple[Condition, ...]:
    """The conditions of an endpoint. Those that a newer version wrote hold: better too much than a loss."""
    try:
        return tuple(_read(text))
    except (Wrong, orjson.JSONDecodeError):
        logger.exception("Conditions of a webhook endpoint cannot be read", extra={"action": "webhook"})
        return ()


def _read(text: str) -> Iterator[Condition]:
    return conditions(orjson.loads(text))
