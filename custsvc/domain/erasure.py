"""Erasing a customer: blanks all personal data in the customer and its history, permanently.

The customer stays, with its id and its versions, so copies and consumers get the erasure like any change. Its
earlier events are rewritten in the same step. Its events on Kafka go when the topic is compacted.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from .customers import Fields

ERASED: Final = Fields(name="(erased)")


def blanked(doc: bytes) -> bytes:
    """A customer's canonical document without personal data."""
    return orjson.dumps(_blanked(orjson.loads(doc)))


def scrubbed(payload: bytes) -> bytes:
    """An event without personal data: it keeps the customer id, the time and the names of changed fields."""
    event = orjson.loads(payload)
    for side in ("before_change", "after_change"):
        event[side] = _blanked(event[side])
    for names in ("took", "kept"):
        # They have keys of metadata.
        event.get("merge", {}).pop(names, None)
    return orjson.dumps(event)


def _blanked(customer: dict[str, Any] | None) -> dict[str, Any] | None:
    if customer is None:
        return None
    blank: dict[str, Any] = {"name": ERASED.name, "email": None, "phone": None, "metadata": {}}
    return {name: blank.get(name, value) for name, value in customer.items()}
