"""Erasing a customer: blanks all personal data in the customer and its history, permanently.

The customer stays, with its id and its versions, so copies and consumers get the erasure like any change. Its
earlier events are rewritten in the same step. Its events on Kafka go when the topic is compacted.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from .customers import Fields

ERASED: Final = Fields(name="(erased)")


class Place(NamedTuple):
    """A place with data of a customer: what it holds, and how an erasure reaches it.

    `tables` are those of PostgreSQL that hold it, none for what is outside the database. One that is not
    `given` is not in the bundle of all data: it holds the same as another place, or nobody can read it.
    """

    name: str
    what: str
    reach: str
    tables: tuple[str, ...] = ()
    given: bool = True


PLACES: Final = (
    Place("customer", "The customer", "blanked at once", ("customer",)),
    Place(
        "history",
        "Its changes, the events",
        "blanked at once, also those that are not on Kafka yet",
        ("customer_event",),
    ),
    Place(
        "mails",
        "Mails about it, and their attempts",
        "blanked when notify reads of the erasure",
        ("notification", "notification_attempt"),
    ),
    Place(
        "requested_mails",
        "Mails to its addresses that other services asked for",
        "kept until they are old (CUSTSVC_NOTIFY_KEEP_DAYS)",
        ("notification", "notification_attempt"),
    ),
    Place(
        "suppressions",
        "Its addresses that get no mail",
        "removed at once, unless another customer has the address",
        ("notification_suppression",),
    ),
    Place(
        "unsubscribed",
        "Mails that it does not want",
        "kept: names of rules beside its number",
        ("notification_preference",),
    ),
    Place("dismissed", "Pairs that are said to be no duplicates", "removed at once", ("dismissed_pair",)),
    Place(
        "uploads",
        "Files of imports, and their reports, of the last day",
        "all removed at once: nobody knows whom they name",
        ("shelf",),
    ),
    Place("dead_letters", "Dead letters with its number", "gone when their topic's retention is over"),
    Place(
        "views",
        "Saved views, whose search may hold what somebody typed",
        "kept until a user deletes them",
        ("saved_view",),
        given=False,
    ),
    Place(
        "topics",
        "Its events on Kafka, the same as its changes; requested and failed mails",
        "gone when the topics are compacted or their retention is over",
        given=False,
    ),
    Place(
        "archives",
        "Archive files of old changes (CUSTSVC_HISTORY_ARCHIVE)",
        "blanked by custsvc archive erase --erased, not before",
        given=False,
    ),
    Place("copies", "Its copies in other databases", "blanked when they read of the erasure", given=False),
    Place("backups", "Backups", "gone when they are deleted", given=False),
)


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


def is_blank(customer: dict[str, Any] | None) -> bool:
    """Whether a customer, or a side of an event, has no personal data."""
    return customer is None or customer == _blanked(customer)
