"""Customers in MongoDB: a write is one transaction over the customer and its event.

The event's `_id` is (customer, version), so a try that did commit though its answer was lost is recognised,
and a customer's history is a range of the primary index. The customer carries a hybrid clock, `hlc`: never
behind the wall clock, and higher with each version. The event takes it along as `pending` until it is sent,
and that is the order in which the outbox gives events out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pymongo
from bson import Int64
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from ...customer import INT64_MAX, Stored
from ...errors import VersionConflict
from ...events import Change
from ..base import CustomerQuery, Deleted, Page
from .connection import BULK_TIMEOUT, TIMEOUT, Connection, Document, is_duplicate, no_schema

# Ids are leased in blocks, so that a POST needs none of its own; a process that ends wastes the rest.
_ID_BLOCK = 50

_BY_DELETED = "deleted_1__id_1"
_DELETED: dict[Deleted, Document] = {
    "exclude": {"deleted": False},
    "only": {"deleted": True},
    "include": {"deleted": {"$gte": False, "$lte": True}},
}


def create_customers(database: Database[Document]) -> None:
    """The migration of customers and ids."""
    database.create_collection("customer")
    database["customer"].create_index([("deleted", ASCENDING), ("_id", ASCENDING)], name=_BY_DELETED)
    # Made here and never by a write: a counter that was lost must not begin at 1 again.
    database["counter"].update_one({"_id": "customer"}, {"$setOnInsert": {"next": Int64(1)}}, upsert=True)


class _OtherVersionError(Exception):
    """The customer is not at the version that the transaction was made for."""


class MongoCustomers:
    """The port `CustomerStore` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._customers = connection["customer"]
        self._events = connection["customer_event"]
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

    def get(self, customer_id: int) -> Stored | None:
        with self._connection.translated():
            found = self._customers.find_one(
                {"_id": customer_id}, {"version": 1, "deleted": 1, "doc": 1, "hlc": 1}
            )
        if found is None:
            return None
        version, doc, hlc = int(found["version"]), found["doc"].encode(), int(found.get("hlc", 0))
        return Stored(customer_id, version, found["deleted"], doc, hlc)

    def find(self, query: CustomerQuery) -> Page:
        where = {"_id": {"$gt": query.after_id or 0}}
        if query.deleted != "include":
            where |= _DELETED[query.deleted]
        with self._connection.translated():
            found = list(
                self._customers.find(
                    where,
                    {"doc": 1},
                    sort=[("_id", ASCENDING)],
                    hint="_id_" if query.deleted == "include" else _BY_DELETED,
                    limit=query.limit + 1,
                    batch_size=query.limit + 1,
                )
            )
        page = found[: query.limit]
        docs = ",".join([each["doc"] for each in page]).encode()
        return Page(docs, len(page), int(page[-1]["_id"]) if page else None, len(found) > len(page))

    def count(self, deleted: Deleted = "exclude") -> int:
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            # The command counts index keys alone; count_documents() would look at each of them.
            answer = self._connection.database.command(
                "count",
                "customer",
                query=_DELETED[deleted],
                hint=_BY_DELETED,
                readConcern=self._customers.read_concern.document,
            )
        return int(answer["n"])

    def save(self, change: Change) -> Stored:
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
            self._events.insert_one(_event_document(change, hlc), session=session)

        if not self._committed(work) and not self._is_stored(change):
            raise VersionConflict(f"customer {customer.id} is not at version {customer.version - 1}")
        return Stored(customer.id, customer.version, customer.deleted, change.doc, hlc)

    def save_many(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        hlc = _now_ms()
        customers = [customer_document(change, hlc) for change in changes]
        events = [_event_document(change, hlc) for change in changes]

        def work(session: ClientSession) -> None:
            self._customers.insert_many(customers, session=session)
            self._events.insert_many(events, session=session)

        # All or none: where one event is there, all of them are.
        if not self._committed(work, timeout=BULK_TIMEOUT) and not self._is_stored(changes[0]):
            raise VersionConflict("one of the customers to store has an id that is taken")

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
            found = self._events.find_one({"_id": _event_key(event.customer_id, event.version)}, {"id": 1})
        return found is not None and found["id"] == event.id

    def _next_hlc(self, before: Stored | None) -> int:
        if before is None:
            return _now_ms()
        if before.hint is None:
            # Not from this store's get() or save(): only the row knows its clock.
            current = self.get(before.id)
            return max((current.hint if current else 0) + 1, _now_ms())
        return max(int(before.hint) + 1, _now_ms())

    def history(self, customer_id: int, *, limit: int, before_version: int | None = None) -> list[bytes]:
        newest = INT64_MAX if before_version is None else before_version - 1
        between = {"$gte": _event_key(customer_id, 0), "$lte": _event_key(customer_id, newest)}
        with self._connection.translated():
            found = self._events.find(
                {"_id": between},
                {"payload": 1},
                sort=[("_id", DESCENDING)],
                limit=limit,
                batch_size=limit + 1,
            )
            return [each["payload"].encode() for each in found]


def customer_document(change: Change, hlc: int) -> Document:
    """The customer as stored: `doc` is the truth, the other fields exist to be found by."""
    customer = change.after
    return {
        # Int64 said aloud: a number's type must not depend on its size.
        "_id": Int64(customer.id),
        "version": Int64(customer.version),
        "deleted": customer.deleted,
        "name": customer.fields.name,
        "email": customer.fields.email,
        "phone": customer.fields.phone,
        "created_on": customer.created_on,
        "updated_on": customer.updated_on,
        "doc": change.doc.decode(),
        "hlc": Int64(hlc),
    }


def _event_document(change: Change, hlc: int) -> Document:
    event = change.event
    return {
        "_id": _event_key(event.customer_id, event.version),
        "id": event.id,
        "op": event.op,
        "time": event.time,
        "payload": event.payload.decode(),
        "pending": Int64(hlc),
    }


def _event_key(customer_id: int, version: int) -> Document:
    return {"customer_id": Int64(customer_id), "version": Int64(version)}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
