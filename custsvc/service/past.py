"""Earlier states of a customer, and whether they are still in the history."""

from __future__ import annotations

import datetime as dt

import orjson

from ..domain.customers import format_time
from ..domain.events import op_of
from ..errors import FieldError, HistoryTrimmed, NotFound, ValidationError
from ..ports.customers import CustomerStore
from ..ports.history import KEPT_OPS


def event_then(store: CustomerStore, customer_id: int, time: dt.datetime) -> bytes:
    """The event that made the customer what it was at a time.

    Raises NotFound if it did not exist yet, HistoryTrimmed if that event is no longer there.
    """
    event = store.event_at(customer_id, time)
    if event is None or (op_of(event) in KEPT_OPS and not _is_followed(store, customer_id, event)):
        current = store.get(customer_id)
        if current is None or current.customer().created_on > time:
            raise NotFound(f"there was no customer {customer_id} then")
        raise HistoryTrimmed(f"customer {customer_id} at {format_time(time)} is older than its history")
    return event


def event_of(store: CustomerStore, customer_id: int, version: int) -> bytes:
    """The event of a version. Raises NotFound, HistoryTrimmed, ValidationError for one that never was."""
    events = store.history(customer_id, limit=1, before_version=version + 1)
    if events and orjson.loads(events[0])["version"] == version:
        return events[0]
    current = store.get(customer_id)
    if current is None:
        raise NotFound(f"there is no customer {customer_id}")
    if version < current.version:
        raise HistoryTrimmed(f"version {version} of customer {customer_id} is older than its history")
    message = f"customer {customer_id} never was at version {version}"
    raise ValidationError([FieldError("version", "unknown_version", message)])


def _is_followed(store: CustomerStore, customer_id: int, event: bytes) -> bool:
    """Whether no event is missing after this one, which stays in the history whatever its age."""
    version = orjson.loads(event)["version"]
    after = store.history(customer_id, limit=1, before_version=version + 2)
    if after and orjson.loads(after[0])["version"] == version + 1:
        return True
    newest = store.history(customer_id, limit=1)
    return bool(newest) and orjson.loads(newest[0])["version"] == version
