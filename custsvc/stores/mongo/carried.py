"""Events that customers carry: a write puts its event into the customer's own document, the relay moves it.

MongoDB writes one document atomically without a transaction, about twice as fast as a transaction over two.
So a customer's change and its event are one write to one document, whose `outbox` holds the events that were
not moved yet. Once they are published, the relay puts them into `customer_event`, the history, and then
removes them from the customer. A crash between the two leaves an event in both places; its key, the customer
and the version, identifies it.

A reader of both places must read the customer first: an event that is no longer there was durable in the
history before it was removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from bson import Int64
from pymongo import ASCENDING, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from ...runtime import crash
from ...runtime.batches import batches
from .connection import Document
from .window import OfCustomers

# A customer that is changed often while no relay runs must not grow without limit: beyond this number its
# events are written to the history at once, in a transaction.
MOST = 20

_HAS_ROOM = f"outbox.{MOST - 1}"
_CHUNK = 1000
# Customers fetched at once: a batch of events if each carries as many as it may.
_AT_ONCE = 250
WAITING: Document = {"outbox.pending": {"$gt": 0}}
BY_PENDING = "outbox.pending_1"


def create_carried(database: Database[Document]) -> None:
    """The migration of carried events: its index holds only customers that carry events."""
    database["customer"].create_index(
        [("outbox.pending", ASCENDING)], name=BY_PENDING, partialFilterExpression=WAITING
    )


def insert(customers: Collection[Document], customer: Document, event: Document) -> None:
    """A new customer with its event."""
    customers.insert_one({**customer, "outbox": [event]})


def update(customers: Collection[Document], customer: Document, event: Document, before: int) -> bool:
    """The next version of a customer, with its event; False where it is not at `before`, or is full."""
    found = {"_id": customer["_id"], "version": Int64(before), _HAS_ROOM: {"$exists": False}}
    change = {"$set": without_key(customer), "$push": {"outbox": event}}
    return customers.update_one(found, change).matched_count == 1


def without_key(document: Document) -> Document:
    """The fields of a document that may be set."""
    return {name: value for name, value in document.items() if name != "_id"}


def of_customer(customers: Collection[Document], customer_id: int) -> list[Document]:
    """The events that a customer carries, the oldest version first."""
    found = customers.find_one({"_id": customer_id}, {"outbox": 1})
    events: list[Document] = (found or {}).get("outbox", [])
    return events


def of_customers(customers: Collection[Document], ids: Sequence[int]) -> dict[tuple[int, int], str]:
    """The ids of the events that these customers carry, by customer and version."""
    found: dict[tuple[int, int], str] = {}
    for some in batches(ids, _CHUNK):
        carrying = {"_id": {"$in": list(some)}, **WAITING}
        for customer in customers.find(carrying, {"outbox._id": 1, "outbox.id": 1}):
            for event in customer["outbox"]:
                key = event["_id"]
                found[int(key["customer_id"]), int(key["version"])] = event["id"]
    return found


def waiting(customers: Collection[Document], session: ClientSession) -> OfCustomers:
    """The events that each customer carries, beginning with the customers that have waited longest."""
    found = customers.find(
        WAITING,
        {"outbox": 1, "_id": 0},
        sort=[("outbox.pending", ASCENDING)],
        hint=BY_PENDING,
        batch_size=_AT_ONCE,
        session=session,
    )
    with found:
        for customer in found:
            yield customer["outbox"]


def move(
    customers: Collection[Document], events: Collection[Document], published: Sequence[Document]
) -> None:
    """Put these events into the history, then remove them from their customers. May be repeated."""
    for some in batches(published, _CHUNK):
        try:
            events.insert_many([{k: v for k, v in e.items() if k != "pending"} for e in some], ordered=False)
        except BulkWriteError as exc:
            if not _only_repeats(exc):
                raise
            # A transaction may have moved some of them meanwhile, as events that wait.
            there = [error["op"]["_id"] for error in exc.details["writeErrors"]]
            events.update_many({"_id": {"$in": there}}, {"$unset": {"pending": ""}})
        crash.point("relay.moving")
        ids = sorted({event["_id"]["customer_id"] for event in some})
        pull = {"$pull": {"outbox": {"id": {"$in": [event["id"] for event in some]}}}}
        customers.update_many({"_id": {"$in": ids}}, pull)


def hand_over(
    customers: Collection[Document], events: Collection[Document], customer_id: int, session: ClientSession
) -> None:
    """Move a customer's events to the history, published or not, in the transaction of `session`."""
    found = customers.find_one({"_id": customer_id}, {"outbox": 1}, session=session)
    carrying = (found or {}).get("outbox", [])
    if carrying:
        inserts = [
            UpdateOne({"_id": e["_id"]}, {"$setOnInsert": without_key(e)}, upsert=True) for e in carrying
        ]
        events.bulk_write(inserts, session=session)
        customers.update_one({"_id": customer_id}, {"$unset": {"outbox": ""}}, session=session)


def _only_repeats(exc: BulkWriteError) -> bool:
    """Whether the only errors are duplicate events, from an interrupted move."""
    errors = exc.details.get("writeErrors", [])
    return all(e["code"] == 11000 for e in errors) and not exc.details.get("writeConcernErrors")


def depth(customers: Collection[Document]) -> tuple[int, float]:
    """How many events are carried, and the age in seconds of the oldest."""
    first: list[Document] = [
        {"$match": WAITING},
        {"$sort": {"outbox.pending": 1}},
        {"$limit": 1},
        {"$project": {"seconds": {"$divide": [{"$subtract": ["$$NOW", {"$first": "$outbox.time"}]}, 1000]}}},
    ]
    oldest = list(customers.aggregate(first, hint=BY_PENDING))
    if not oldest:
        return 0, 0.0
    count: list[Document] = [
        {"$match": WAITING},
        {"$group": {"_id": None, "count": {"$sum": {"$size": "$outbox"}}}},
    ]
    counted = list(customers.aggregate(count, hint=BY_PENDING))
    return int(counted[0]["count"]) if counted else 0, float(oldest[0]["seconds"])
