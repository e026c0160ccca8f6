"""Sample events, to check and show rules and templates before a customer gets a mail."""

from __future__ import annotations

import datetime as dt

from ...domain.customers import Customer, Fields, Stored
from ...domain.events import new_change
from ...domain.received import ReceivedEvent, decode

_NOW = dt.datetime(2026, 11, 23, 20, 40, 0, 123000, tzinfo=dt.UTC)
_FULL = Fields(
    "Ada Lovelace", "ada@example.com", "+44 20 7946 0000", {"plan": "gold", "seats": 3, "vip": True}
)
_CHANGED = Fields(
    "Ada King", "ada.king@example.com", None, {"plan": "silver", "vip": True, "note": "a <b> & c"}
)
_BARE = Fields("Ada Lovelace", "ada@example.com")


def event(op: str, *, bare: bool = False) -> ReceivedEvent:
    """A sample event of this kind; `bare`: of a customer with only a name and an address."""
    first = Customer(7, _BARE if bare else _FULL, False, 1, _NOW, "sample", _NOW, "sample")
    if op in ("created", "snapshot"):
        return _received(op, None, first)
    after = first.changed_to(
        fields=first.fields if bare or op != "updated" else _CHANGED,
        deleted=op in ("deleted", "erased", "merged_into"),
        now=_NOW + dt.timedelta(hours=1),
        by="sample",
    )
    return _received(op, Stored(7, 1, False, first.encode()), after)


def _received(op: str, before: Stored | None, after: Customer) -> ReceivedEvent:
    return decode(new_change(op, before, after, actor="sample").event.payload, b"7")
