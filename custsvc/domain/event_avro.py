"""An event as Avro: its schema, and the way from our JSON to Avro's values and back, byte for byte.

Free JSON (`metadata`, `merge`) is text of JSON in Avro: so each value comes back as it was, whatever somebody
keeps in it. Times and ids stay the text that they are in JSON. Pure: knows no Avro library.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ..errors import BadEvent
from .events import BULK

NAME: Final = "custsvc.CustomerEvent"

_TEXT_OR_NULL: Final = ["null", "string"]
_CUSTOMER_TYPES: Final[dict[str, Any]] = {
    "id": "long",
    "name": "string",
    "email": _TEXT_OR_NULL,
    "phone": _TEXT_OR_NULL,
    "metadata": "string",
    "deleted": "boolean",
    "version": "long",
    "created_on": "string",
    "created_by": "string",
    "updated_on": "string",
    "updated_by": "string",
}
_CUSTOMER: Final = "custsvc.Customer"
_DOCS: Final = {
    "id": "A UUID; the same event always has the same.",
    "event_ts": "UTC, as 2026-11-23T20:40:00.123Z.",
    "app_event_type": "100 created or snapshot, 200 changed, 300 deleted.",
    "changed": "The names of the fields that differ.",
    "schema": "The version of this layout; 2 for merges.",
    "merge": "JSON: what a merge, or undoing it, did.",
    "bulk": "One of many changes, made without a wish for mails.",
    "metadata": "JSON: a flat object of text, numbers, true, false and null.",
}


def schema() -> dict[str, Any]:
    """The Avro schema of an event's value."""
    customer = {
        "type": "record",
        "name": "Customer",
        "namespace": "custsvc",
        "fields": [_field(name, kind) for name, kind in _CUSTOMER_TYPES.items()],
    }
    return {
        "type": "record",
        "name": "CustomerEvent",
        "namespace": "custsvc",
        "doc": "One change of one customer.",
        "fields": [
            _field("id", "string"),
            _field("event_ts", "string"),
            _field("app_event_type", "int"),
            _field("op", "string"),
            _field("customer_id", "long"),
            _field("version", "long"),
            _field("changed", {"type": "array", "items": "string"}),
            _field("actor", _TEXT_OR_NULL),
            _field("request_id", _TEXT_OR_NULL),
            _field("schema", "int"),
            {**_field("merge", _TEXT_OR_NULL), "default": None},
            {**_field(BULK, "boolean"), "default": False},
            _field("before_change", ["null", customer]),
            _field("after_change", _CUSTOMER),
        ],
    }


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **({"doc": _DOCS[name]} if name in _DOCS else {})}


_MEMBERS: Final = tuple(field["name"] for field in schema()["fields"])
# Each of these is there only in some events, between the others.
_LAYOUTS: Final = frozenset(
    tuple(name for name in _MEMBERS if name not in left_out)
    for left_out in ((), ("merge",), (BULK,), ("merge", BULK))
)
_FIELDS: Final = tuple(_CUSTOMER_TYPES)


def to_avro(payload: bytes) -> dict[str, Any] | None:
    """The value of our own event's payload in Avro.

    None if it has other members than ours or has them in another order, as another program may have written
    them into the database: it could not come back as it was.
    """
    event = orjson.loads(payload)
    before, after = event.get("before_change"), event.get("after_change")
    if tuple(event) not in _LAYOUTS or tuple(after or ()) != _FIELDS:
        return None
    if before is not None:
        if tuple(before) != _FIELDS:
            return None
        before["metadata"] = orjson.dumps(before["metadata"]).decode()
        # With its name, so that the library need not look for the branch of the union.
        event["before_change"] = _CUSTOMER, before
    after["metadata"] = orjson.dumps(after["metadata"]).decode()
    if "merge" in event:
        event["merge"] = orjson.dumps(event["merge"]).decode()
    if event.get(BULK, True) is not True:
        return None
    return dict(event)


def from_avro(event: dict[str, Any]) -> bytes:
    """The payload of an event from its value in Avro, in our layout.

    Raises BadEvent if a text of JSON in it is not JSON.
    """
    try:
        for name in ("before_change", "after_change"):
            if (customer := event[name]) is not None:
                customer["metadata"] = orjson.loads(customer["metadata"])
        if event["merge"] is None:
            del event["merge"]
        else:
            event["merge"] = orjson.loads(event["merge"])
    except orjson.JSONDecodeError as exc:
        raise BadEvent("bad-json", f"a text of JSON in the Avro value is not JSON: {exc}") from exc
    if not event[BULK]:
        del event[BULK]
    return orjson.dumps(event)
