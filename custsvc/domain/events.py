"""Customer events: encodes them for Kafka. `received` checks and decodes records.

A write encodes its event once, around the canonical bytes of the customer before and after. The value is one
JSON object with the original services' fields (`id event_ts app_event_type before_change after_change`) and
ours; the headers are CloudEvents 1.0 in binary mode.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from .customers import EDITABLE, Customer, Stored, format_time, parse_time
from .requests import TRACEPARENT

# The schema of an event: 2 for merges, whose ops came later, and 1 for all others. So a reader of an earlier
# release reads on, and stops at a merge instead of taking it for a bad record.
SCHEMA: Final = 1
NEWEST_SCHEMA: Final = 2

# The most bytes of an event that fits any topic with the default limit.
EVENT_LIMIT: Final = 1_000_000

# The original services' numbers. Restored, erased and merged count as updated, a snapshot as created.
APP_EVENT_TYPE: Final = {
    "created": 100,
    "snapshot": 100,
    "updated": 200,
    "restored": 200,
    "erased": 200,
    "deleted": 300,
    # Of the survivor of a merge, and of those that it took in.
    "merged": 200,
    "merged_into": 300,
    "unmerged": 200,
}

SCHEMA_OF: Final = {op: 2 if op in ("merged", "merged_into", "unmerged") else 1 for op in APP_EVENT_TYPE}

# The member that marks an event as one of many, for which no mails are wanted. It is there only where it
# is true, so all other events are as they were before it came; readers that do not know it ignore it.
BULK: Final = "bulk"

# The header that names the database of an event.
SOURCE_HEADER: Final = "ce_source"

# The beginning of the last member of our events.
AFTER_MEMBER: Final = b',"after_change":{'


class CustomerEvent(NamedTuple):
    """One change of one customer: its ids, and `payload`, the exact bytes of the Kafka value."""

    id: str
    customer_id: int
    version: int
    op: str
    payload: bytes
    traceparent: str | None = None

    @property
    def time(self) -> dt.datetime | None:
        """When the change was made; None for an event that another program wrote without a time.

        Parsed at each call, since few readers ask for it.
        """
        try:
            return parse_time(time_of(self.payload).decode())
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Change:
    """A customer's next state with its event; a store saves both in one atomic step."""

    before: Stored | None
    after: Customer
    doc: bytes
    event: CustomerEvent


def new_change(
    op: str,
    before: Stored | None,
    after: Customer,
    *,
    actor: str,
    request_id: str | None = None,
    traceparent: str | None = None,
    changed: list[str] | None = None,
    merge: Mapping[str, Any] | None = None,
    bulk: bool = False,
) -> Change:
    """The change from `before` to `after`, its event encoded around both documents' bytes.

    `merge` is the event's member of that name: what a merge, or undoing it, did to which customers. `bulk`
    marks a change that is one of many, made without a wish for mails.
    """
    doc = after.encode()
    event_id = new_event_id()
    head = orjson.dumps(
        {
            "id": event_id,
            "event_ts": format_time(after.updated_on),
            "app_event_type": APP_EVENT_TYPE[op],
            "op": op,
            "customer_id": after.id,
            "version": after.version,
            "changed": changed_fields(before, after) if changed is None else changed,
            "actor": actor,
            "request_id": request_id,
            "schema": SCHEMA_OF[op],
            **({"merge": merge} if merge else {}),
            **({BULK: True} if bulk else {}),
        }
    )
    payload = b"".join(
        (head[:-1], b',"before_change":', before.doc if before else b"null", b',"after_change":', doc, b"}")
    )
    event = CustomerEvent(event_id, after.id, after.version, op, payload, traceparent)
    return Change(before, after, doc, event)


def snapshot(
    customer_id: int, version: int, doc: bytes, now: dt.datetime, *, actor: str, bulk: bool = False
) -> CustomerEvent:
    """An event with the customer's current state, for consumers that missed earlier events."""
    event_id = new_event_id()
    head = orjson.dumps(
        {
            "id": event_id,
            "event_ts": format_time(now),
            "app_event_type": APP_EVENT_TYPE["snapshot"],
            "op": "snapshot",
            "customer_id": customer_id,
            "version": version,
            "changed": [],
            "actor": actor,
            "request_id": None,
            "schema": SCHEMA,
            **({BULK: True} if bulk else {}),
        }
    )
    payload = b"".join((head[:-1], b',"before_change":null,"after_change":', doc, b"}"))
    return CustomerEvent(event_id, customer_id, version, "snapshot", payload)


def changed_fields(before: Stored | None, after: Customer) -> list[str]:
    """The names of the fields that differ; without `before`, of the fields that have a value."""
    if before is None:
        return [name for name in EDITABLE if getattr(after.fields, name) not in (None, {})]
    names = after.fields.differing(before.customer().fields)
    return names if before.deleted == after.deleted else [*names, "deleted"]


def new_event_id() -> str:
    """A UUID of version 7 (RFC 9562), which sorts by time and so keeps its index compact."""
    millis = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (noise >> 62 & 0xFFF) << 64
    text = f"{value | 0b10 << 62 | noise & (1 << 62) - 1:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _ce_type(op: str) -> bytes:
    return f"custsvc.customer.{op}.v{SCHEMA}".encode()


_CE_TYPE: Final = {op: _ce_type(op) for op in APP_EVENT_TYPE}


# Where an event's id and time are in the payload, which begins with them: `{"id":"…","event_ts":"…`.
_ID: Final = slice(7, 43)
_BETWEEN: Final = slice(43, 57)
_TIME: Final = slice(57, 81)
_BETWEEN_THEM: Final = b'","event_ts":"'


def stored_event(
    customer_id: int, version: int, op: str, payload: bytes, traceparent: str | None = None
) -> CustomerEvent:
    """Our own event from its payload and what the database knows of it; parses as little as it can."""
    return CustomerEvent(
        id_of(payload).decode("utf-8", "replace"), customer_id, version, op, payload, traceparent
    )


def id_of(payload: bytes) -> bytes:
    """The id of our own event, from its payload."""
    return payload[_ID] if payload[_BETWEEN] == _BETWEEN_THEM else _member(payload, "id")


def time_of(payload: bytes) -> bytes:
    """The time of our own event as `format_time` writes it, from the event's payload."""
    return payload[_TIME] if payload[_BETWEEN] == _BETWEEN_THEM else _member(payload, "event_ts")


def _member(payload: bytes, name: str) -> bytes:
    """A text of an event; empty if there is none. Another program may have written into the database."""
    try:
        found = orjson.loads(payload)[name]
    except (ValueError, LookupError, TypeError):
        return b""
    return found.encode() if isinstance(found, str) else b""


def op_of(payload: bytes) -> str:
    """The op of our own event's payload."""
    return str(orjson.loads(payload)["op"])


def request_id_of(payload: bytes) -> str | None:
    """The id of the request that caused our own event, from the event's payload; None if there was none."""
    return _member(payload, "request_id").decode() or None


def after_of(payload: bytes) -> bytes:
    """The canonical bytes of the customer after the change, from our own event's payload."""
    return payload[payload.rindex(AFTER_MEMBER) + len(AFTER_MEMBER) - 1 : -1]


def headers(
    event: CustomerEvent, source: bytes, content_type: bytes = b"application/json"
) -> dict[str, str | bytes | None]:
    """The CloudEvents 1.0 headers (binary mode) of an event. `source` names its database."""
    _, customer_id, _, op, payload, traceparent = event
    made: dict[str, str | bytes | None] = {
        "ce_specversion": b"1.0",
        "ce_id": id_of(payload),
        "ce_type": _CE_TYPE.get(op) or _ce_type(op),
        SOURCE_HEADER: source,
        "ce_subject": b"%d" % customer_id,
        "ce_time": time_of(payload),
        "content-type": content_type,
    }
    if traceparent:
        made[TRACEPARENT] = traceparent.encode()
    return made
