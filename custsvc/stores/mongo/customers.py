"""Writing customers to MongoDB: a write is one transaction over the customer and its event.

The event's `_id` is (customer, version), so a try that did commit though its answer was lost is recognised,
and a customer's history is a range of the primary index. The customer carries a hybrid clock, `hlc`: never
behind the wall clock, and higher with each version. The event takes it along as `pending` until it is sent,
and that is the order in which the outbox gives events out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from bson import Int64
from pymongo import ASCENDING, ReplaceOne, ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from ... import crash
from ...customer import Stored
from ...errors import VersionConflict
from ...events import Change
from ..base import Answer
from .answers import MongoAnswers
from .connection import BULK_TIMEOUT, TIMEOUT, Connection, Document, is_duplicate, no_schema
from .documents import plain_document
from .queries import BY_DELETED, MongoQueries, event_key

# Ids are leased in blocks, so that a POST needs none of its own; a process that ends wastes the rest.
_ID_BLOCK = 50


def create_customers(database: Database[Document]) -> None:
    """The migration of customers and ids."""
    database.create_collection("customer")
    database["customer"].create_index([("deleted", ASCENDING), ("_id", ASCENDING)], name=BY_DELETED)
    # Made here and never by a write: a counter that was lost must not begin at 1 again.
    database["counter"].update_one({"_id": "customer"}, {"$setOnInsert": {"next": Int64(1)}}, upsert=True)


class _OtherVersionError(Exception):
    """The customer is not at the version that the transaction was made for."""


class MongoCustomers(MongoQueries):
    """The port `CustomerStore` on MongoDB."""

    def __init__(self, connection: Connection, answers: MongoAnswers) -> None:
        super().__init__(connection)
        self._answers = answers
        self._ids: list[int] = []
        self._ids_lock = threading.Lock()

    def new_id(self) -> int:
        with self._ids_lock:
            if not self._ids:
                self._ids = list(reversed(self.new_ids(_ID_BLOCK)))
            return self._ids.pop()

    def new_ids(self, count: int) -> Sequence[int]:
        with self._connection.translated():
            counter = self._connection["counter"].find_one_and_update(
                {"_id": "customer"}, {"$inc": {"next": Int64(count)}}, return_document=ReturnDocument.BEFORE
            )
        if counter is None:
            raise no_schema()
        return range(counter["next"], counter["next"] + count)

    def ids_above(self, customer_id: int) -> None:
        with self._ids_lock, self._connection.translated():
            self._ids = []
            self._connection["counter"].update_one(
                {"_id": "customer"}, {"$max": {"next": Int64(customer_id + 1)}}
            )

    def save(self, change: Change, answer: Answer | None = None) -> Stored:
        customer, before = change.after, change.before
        hlc = self._next_hlc(before)
        document = customer_document(change, hlc)

        def work(session: ClientSession) -> None:
            if before is None:
                self._customers.insert_one(document, session=session)
            else:
                found = {"_id": document["_id"], "version": Int64(before.version)}
                if not self._customers.replace_one(found, document, session=session).matched_count:
                    raise _OtherVersionError
            crash.point("save.halfway")
            self._events.insert_one(_event_document(change, hlc), session=session)
            if answer is not None:
                self._answers.insert(answer, session)

        if not self._committed(work) and not self._is_stored(change):
            raise VersionConflict(f"customer {customer.id} is not at version {customer.version - 1}")
        return Stored(customer.id, customer.version, customer.deleted, change.doc, hlc)

    def save_many(self, changes: Sequence[Change], answer: Answer | None = None) -> None:
        if not changes and answer is None:
            return
        plan = _Plan(changes, self._next_hlc)

        def work(session: ClientSession) -> None:
            self._write(plan, session)
            if answer is not None:
                self._answers.insert(answer, session)

        # All or none: where one event is there, all of them are.
        if not self._committed(work, timeout=BULK_TIMEOUT) and not (changes and self._is_stored(changes[0])):
            raise VersionConflict("one of the customers to store is at another version; nothing was stored")

    def _write(self, plan: _Plan, session: ClientSession) -> None:
        if plan.new:
            self._customers.insert_many(plan.new, session=session)
        if plan.changed:
            matched = self._customers.bulk_write(plan.changed, session=session).matched_count
            if matched != len(plan.changed):
                raise _OtherVersionError
        if plan.events:
            self._events.insert_many(plan.events, session=session)

    def erase(self, change: Change, scrub: Callable[[bytes], bytes]) -> Stored:
        plan = _Plan([change], self._next_hlc)
        customer = change.after
        earlier = {
            "$gte": event_key(customer.id, 0),
            "$lt": event_key(customer.id, customer.version),
        }

        def work(session: ClientSession) -> None:
            self._write(plan, session)
            found = self._events.find({"_id": earlier}, {"payload": 1}, session=session)
            scrubbed = [
                UpdateOne(
                    {"_id": each["_id"]}, {"$set": {"payload": scrub(each["payload"].encode()).decode()}}
                )
                for each in found
            ]
            if scrubbed:
                self._events.bulk_write(scrubbed, session=session)

        if not self._committed(work, timeout=BULK_TIMEOUT) and not self._is_stored(change):
            raise VersionConflict(f"customer {customer.id} is not at version {customer.version - 1}")
        return Stored(customer.id, customer.version, customer.deleted, change.doc, plan.hlc[customer.id])

    def _committed(self, work: Callable[[ClientSession], None], *, timeout: float = TIMEOUT) -> bool:
        """Run a transaction; False where it found another version, or an id that is taken."""

        def attempt(session: ClientSession) -> None:
            try:
                work(session)
            except PyMongoError as exc:
                if is_duplicate(exc):
                    raise _OtherVersionError from exc
                raise

        try:
            self._connection.transaction(attempt, timeout=timeout)
        except _OtherVersionError:
            return False
        return True

    def _is_stored(self, change: Change) -> bool:
        """Whether this very change was committed, by a try of which we never got the answer."""
        event = change.event
        with self._connection.translated():
            found = self._events.find_one({"_id": event_key(event.customer_id, event.version)}, {"id": 1})
        return found is not None and found["id"] == event.id

    def _next_hlc(self, before: Stored | None) -> int:
        if before is None:
            return _now_ms()
        if before.hint is None:
            # Not from this store's get() or save(): only the row knows its clock.
            current = self.get(before.id)
            return max((current.hint if current else 0) + 1, _now_ms())
        return max(int(before.hint) + 1, _now_ms())


class _Plan:
    """What a transaction of many changes writes: each customer's last state, and all events in order."""

    def __init__(self, changes: Sequence[Change], next_hlc: Callable[[Stored | None], int]) -> None:
        self.hlc: dict[int, int] = {}
        self.events: list[Document] = []
        first: dict[int, Change] = {}
        last: dict[int, Document] = {}
        for change in changes:
            customer_id = change.after.id
            if customer_id in first:
                hlc = self.hlc[customer_id] + 1
            else:
                first[customer_id] = change
                hlc = next_hlc(change.before)
            self.hlc[customer_id] = hlc
            last[customer_id] = customer_document(change, hlc)
            self.events.append(_event_document(change, hlc))
        self.new = [last[i] for i, change in first.items() if change.before is None]
        # In the order of id, so that two of these do not take turns at stopping each other.
        self.changed = [
            ReplaceOne({"_id": Int64(i), "version": Int64(change.before.version)}, last[i])
            for i, change in sorted(first.items())
            if change.before is not None
        ]


def customer_document(change: Change, hlc: int) -> Document:
    return {**plain_document(change.after, change.doc), "hlc": Int64(hlc)}


def _event_document(change: Change, hlc: int) -> Document:
    event = change.event
    return {
        "_id": event_key(event.customer_id, event.version),
        "id": event.id,
        "op": event.op,
        "time": event.time,
        "payload": event.payload.decode(),
        "pending": Int64(hlc),
        **({"traceparent": event.traceparent} if event.traceparent else {}),
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
