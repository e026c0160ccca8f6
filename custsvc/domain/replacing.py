"""The update of all fields of a customer, written down before the customer is read.

A PUT names every field, so the writer knows all of the next version but three things: its number, when and by
whom the customer was created, and the customer as it was. A `Replacement` has the bytes around them, and the
database joins the pieces while it holds the row. The result is byte for byte what `events.new_change` makes
of the customer that was read.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

import orjson

from .customers import EDITABLE, Customer, Fields, Stored
from .events import new_change

_VERSION: Final = b'"version":0,'
_CREATED: Final = b'"created_on":'
_UPDATED: Final = b',"updated_on":'
_CHANGED: Final = b'"version":0,"changed":[]'
_BEFORE: Final = b',"before_change":'
_AFTER: Final = b',"after_change":'


@dataclass(frozen=True, slots=True)
class Replacement:
    """New fields for a live customer that is at the version `expected`; None: at any version.

    The next document is `doc_head`, the version, `,"created_on":T,"created_by":ACTOR` as before, `doc_tail`.
    The event is `event_head`, the version, `,"changed":[NAMES]`, `event_middle`, the document before,
    `,"after_change":`, the next document and `}`. It may have at most `event_limit` bytes.
    """

    customer_id: int
    expected: int | None
    fields: Fields
    time: dt.datetime
    event_id: str
    traceparent: str | None
    event_limit: int
    # The JSON of each of `EDITABLE`, by which the fields that change are found.
    members: tuple[str, ...]
    doc_head: str
    doc_tail: str
    event_head: str
    event_middle: str


def replacement(
    customer_id: int,
    fields: Fields,
    now: dt.datetime,
    *,
    expected: int | None,
    event_limit: int,
    actor: str,
    request_id: str | None,
    traceparent: str | None,
) -> Replacement:
    """The replacement of a customer's fields by `actor`. Its event has an id already."""
    after = Customer(customer_id, fields, False, 0, now, "", now, actor)
    change = new_change(
        "updated",
        Stored(customer_id, 0, False, b""),
        after,
        actor=actor,
        request_id=request_id,
        traceparent=traceparent,
        changed=[],
    )
    # Searched from the right: the metadata before it may have the same key.
    doc_head, _, rest = change.doc.rpartition(_VERSION + _CREATED)
    event_head, _, event_rest = change.event.payload.partition(_CHANGED)
    return Replacement(
        customer_id=customer_id,
        expected=expected,
        fields=fields,
        time=now,
        event_id=change.event.id,
        traceparent=traceparent,
        event_limit=event_limit,
        members=tuple(orjson.dumps(getattr(fields, name)).decode() for name in EDITABLE),
        doc_head=(doc_head + b'"version":').decode(),
        doc_tail=(_UPDATED + rest.partition(_UPDATED)[2]).decode(),
        event_head=(event_head + b'"version":').decode(),
        event_middle=event_rest[: event_rest.index(_BEFORE + _AFTER) + len(_BEFORE)].decode(),
    )
