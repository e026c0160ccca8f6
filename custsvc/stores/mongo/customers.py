"""Writing customers to MongoDB: a write is one document, the customer with its event in it (see `carried`).

The event's `_id` is (customer, version), so a write that was committed although its reply was lost is
recognised, and a customer's history is a range of the primary index. The customer has a hybrid clock, `hlc`:
never behind the wall clock, and higher with each version. The event has it as `pending` until it is sent; the
outbox returns events in that order. Writes that one document cannot hold use a transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from bson import Int64
from pymongo import ASCENDING, ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from ...domain.customers import Stored
from ...domain.events import Change
from ...domain.replacing import Replacement
from ...errors import VersionConflict
from ...ports.answers import Answer
from ...runtime import crash
from . import carried
from .answers import MongoAnswers
from .connection import (
    ABANDONED,
    BULK_TIMEOUT,
    COMMITTED,
    LATEST,
    TIMEOUT,
    Connection,
    Document,
    is_duplicate,
    make_collection,
    no_schema,
)
from .documents import plain_document
from .queries import BY_DELETED, MongoQueries, event_key

# Ids are leased in blocks, so that a POST needs none of its own; a process that ends wastes the rest.
_ID_BLOCK = 50


def create_customers(database: Database[Document]) -> None:
    """The migration of customers and ids."""
    make_collection(database, "customer")
    database["customer"].create_index([("deleted", ASCENDING), ("_id", ASCENDING)], name=BY_DELETED)
    # Made here and never by a write: a lost counter must not begin at 1 again.
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

    def analyze(self) -> None:
        """MongoDB tries its plans on the data itself."""

    def ids_above(self, customer_id: int) -> None:
        with self._ids_lock, self._connection.translated():
            self._ids = []
            self._connection["counter"].update_one(
                {"_id": "customer"}, {"$max": {"next": Int64(customer_id + 1)}}
            )

    def save(self, change: Change, answer: Answer | None = None) -> Stored:
        customer, hlc, begun = change.after, self._next_hlc(change.before), time.monotonic()
        document, event = customer_document(change, hlc), event_document(change, hlc)
        saved = self._saved(change, document, event) if answer is None else None
        if saved is None:
            plan = _Plan([change], lambda _: hlc)
            saved = self._committed(partial(self._write, plan, answer)) or self._is_stored(change, begun)
        if not saved:
            raise VersionConflict(f"customer {customer.id} is not at version {customer.version - 1}")
        return Stored(customer.id, customer.version, customer.deleted, change.doc, hlc)

    def _saved(self, change: Change, document: Document, event: Document) -> bool | None:
        """Write the customer with its event in it. None if there is no room: then use a transaction."""
        begun = time.monotonic()
        if self._carried(change.before, document, event) or self._is_stored(change, begun):
            return True
        return None if change.before is not None and self._is_at(change.before) else False

    def _carried(
        self, before: Stored | None, document: Document, event: Document, *, timeout: float = TIMEOUT
    ) -> bool:
        """One write of one document; False for another version, a taken id, or too many events."""

        def write() -> bool:
            if before is not None:
                return carried.update(self._customers, document, event, before.version)
            try:
                carried.insert(self._customers, document, event)
            except DuplicateKeyError:
                return False
            return True

        return self._connection.patiently(write, timeout=timeout)

    def _is_at(self, before: Stored) -> bool:
        found = {"_id": before.id, "version": Int64(before.version)}
        with self._connection.translated():
            return self._customers.find_one(found, {"_id": 1}) is not None

    def replace(self, new: Callable[[], Replacement]) -> Stored | None:  # noqa: ARG002 - of the port
        return None  # an update pipeline cannot parse JSON: it would take the document apart by patterns

    def save_many(self, changes: Sequence[Change], answer: Answer | None = None) -> None:
        if not changes and answer is None:
            return
        plan, begun = _Plan(changes, self._next_hlc), time.monotonic()

        work = partial(self._write, plan, answer)
        # All or none: where one event is there, all of them are.
        if not self._committed(work, timeout=BULK_TIMEOUT) and not (
            changes and self._is_stored(changes[0], begun)
        ):
            raise VersionConflict("one of the customers to store is at another version; nothing was stored")

    def _write(self, plan: _Plan, answer: Answer | None, session: ClientSession) -> None:
        if plan.new:
            self._customers.insert_many(plan.new, session=session)
        if plan.changed:
            matched = self._customers.bulk_write(plan.changed, session=session).matched_count
            if matched != len(plan.changed):
                raise _OtherVersionError
        crash.point("save.halfway")
        if plan.events:
            self._events.insert_many(plan.events, session=session)
        if answer is not None:
            self._answers.insert(answer, session)

    def erase(self, change: Change, scrub: Callable[[bytes], bytes], answer: Answer | None = None) -> Stored:
        plan, begun = _Plan([change], self._next_hlc), time.monotonic()
        customer = change.after
        earlier = {
            "$gte": event_key(customer.id, 0),
            "$lt": event_key(customer.id, customer.version),
        }

        def work(session: ClientSession) -> None:
            self._write(plan, None, session)
            # A relay that has read the carried events must find them scrubbed in the history, and not insert
            # the originals.
            carried.hand_over(self._customers, self._events, customer.id, session)
            found = self._events.find({"_id": earlier}, {"payload": 1}, session=session)
            scrubbed = [
                UpdateOne(
                    {"_id": each["_id"]}, {"$set": {"payload": scrub(each["payload"].encode()).decode()}}
                )
                for each in found
            ]
            if scrubbed:
                self._events.bulk_write(scrubbed, session=session)
            if answer is not None:
                self._answers.insert(answer, session)

        if not self._committed(work, timeout=BULK_TIMEOUT) and not self._is_stored(change, begun):
            raise VersionConflict(f"customer {customer.id} is not at version {customer.version - 1}")
        return Stored(customer.id, customer.version, customer.deleted, change.doc, plan.hlc[customer.id])

    def _committed(self, work: Callable[[ClientSession], None], *, timeout: float = TIMEOUT) -> bool:
        """Run a transaction; False if it found another version, or a taken id."""

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

    def _is_stored(self, change: Change, begun: float) -> bool:
        """Whether this very change was committed by an earlier write whose reply was lost."""
        event = change.event
        key = event_key(event.customer_id, event.version)
        # After a timeout the write may exist but not be durable yet: then this read waits for that, or fails.
        concern = LATEST if time.monotonic() - begun >= ABANDONED else COMMITTED
        customers = self._customers.with_options(read_concern=concern)
        events = self._events.with_options(read_concern=concern)
        with self._connection.translated():
            found = customers.find_one({"_id": event.customer_id, "outbox.id": event.id}, {"_id": 1})
            if found is None:
                found = events.find_one({"_id": key, "id": event.id}, {"_id": 1})
        return found is not None

    def _next_hlc(self, before: Stored | None) -> int:
        if before is None:
            return _now_ms()
        if before.hint is None:
            # `before` is not from this store's get() or save(): only the document has its clock.
            current = self.get(before.id)
            return max((current.hint if current else 0) + 1, _now_ms())
        return max(int(before.hint) + 1, _now_ms())


class _Plan:
    """The writes of a transaction of many changes: each customer's last state, and all events in order."""

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
            self.events.append(event_document(change, hlc))
        self.new = [last[i] for i, change in first.items() if change.before is None]
        # $set, not replace: the customers keep the events that they carry. In the order of id, so that two
        # such transactions do not abort each other in turn.
        self.changed = [
            UpdateOne(
                {"_id": Int64(i), "version": Int64(change.before.version)},
                {"$set": carried.without_key(last[i])},
            )
            for i, change in sorted(first.items())
            if change.before is not None
        ]


def customer_document(change: Change, hlc: int) -> Document:
    """The customer as stored in a system of record."""
    return {**plain_document(change.after, change.doc), "hlc": Int64(hlc)}


def event_document(change: Change, hlc: int) -> Document:
    """The event as stored: `pending` until it is sent."""
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
