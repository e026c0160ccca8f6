"""The outbox in MongoDB: events that are `pending`, in the order of their customers' hybrid clocks.

There is no cursor that could be lost or overtake a slow transaction: the relay reads all pending events, and
unmarks exactly those that it has read and sent. Most events wait in the documents of their customers and are
moved to the history once sent (see `carried`); those written in a transaction are in the history at once.

All are read from one snapshot, because a cursor that only guarantees committed data may return version 3 of a
customer and, having passed its place, miss version 2.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import NamedTuple

import pymongo
from bson import Int64
from pymongo import ASCENDING
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import OperationFailure

from ...domain.events import CustomerEvent, stored_event
from ...errors import TemporaryError
from ...ports.facts import Fact
from ...ports.outbox import Batch, Depth, Known, Sent
from ...runtime import crash
from ...runtime.batches import batches
from . import carried
from .connection import BULK_TIMEOUT, Connection, Document, make_collection
from .doorbell import Doorbell
from .lease import Lease
from .window import Events, OfCustomers, Window

# A stand-by takes over within this many seconds after a leader's death.
LEASE = 3.0
# For waits of at least this many seconds a change stream is worth the cost of opening it.
_LONG = 0.1
# Ids per update: far below the 16 MB limit of a command, and short enough not to delay other writers.
_CHUNK = 1000

# Where the window is at its end, up to so many events are read a second time along with those that follow;
# with more it costs less to wait until they are marked.
_AHEAD = 500

# Most events of the history in an answer of the server.
_AT_ONCE = 1000

# How far back to search for the events sent last, so that an entirely unsent history is not read whole.
LATEST = 100_000

PENDING: Document = {"pending": {"$gt": 0}}
# What is read of an event in the history: not its time, which the driver would make a date.
READ = {"_id": 1, "id": 1, "op": 1, "payload": 1, "pending": 1, "traceparent": 1}
BY_PENDING = "pending_1"


def create_events(database: Database[Document]) -> None:
    """The migration of events: a partial index holds only pending ones."""
    make_collection(database, "customer_event")
    database["customer_event"].create_index(
        [("pending", ASCENDING)], name=BY_PENDING, partialFilterExpression=PENDING
    )


class _Read(NamedTuple):
    """The parts of a batch: keys of events in the history, and events that customers carry.

    And how far it goes: the window that it is of, and how many events of that were read by then.
    """

    apart: list[Document]
    held: list[Document]
    upto: tuple[Window, int] | None = None


class MongoOutbox:
    """The port `Outbox` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._customers = connection["customer"]
        self._events = connection["customer_event"]
        self._lease: Lease | None = None
        self._doorbell = Doorbell(connection, ["customer", "customer_event"])
        self._window: Window | None = None
        self._source = ""

    @contextmanager
    def lead(self) -> Iterator[bool]:
        lease = Lease(self._connection, "custsvc_meta", Fact.OUTBOX_LEASE, LEASE)
        with lease.held() as leading:
            self._lease = lease if leading else None
            try:
                yield leading
            finally:
                self._lease = None
                self._leave()

    def _leave(self) -> None:
        """Give back what was held for reading."""
        self._doorbell.close()
        if self._window is not None:
            self._window.close()
            self._window = None

    def read(self, limit: int) -> Batch:
        return self._open(limit, frozenset())

    def ahead(self, batch: Batch, limit: int) -> Batch:
        window, read = self._window, batch.token
        if window is not None and read.upto == (window, window.taken):
            following = self._page(window, limit)
            if following.events:
                return following
        # Events not yet marked as sent are read again, and left out by their ids. Their clocks do not
        # suffice: an event may have become visible since that is older than known ones of another customer.
        if len(batch.events) > _AHEAD:
            return Batch()
        return self._open(limit, {event.id for event in batch.events})

    def _open(self, limit: int, known: Set[str]) -> Batch:
        """The first page of a new window."""
        if self._window is not None:
            self._window.close()
        # One snapshot for both places: a version may be in one place, and the next version in the other.
        session = self._connection.client.start_session(snapshot=True)
        apart, held = self._apart(min(limit + len(known), _AT_ONCE), session), self._held(session)
        self._window = Window(session, apart, held, known)
        return self._page(self._window, limit)

    def _page(self, window: Window, limit: int) -> Batch:
        self._check()
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            found = window.page(limit)
        return Batch(
            [_event(event) for event, _ in found],
            _Read(
                [event["_id"] for event, is_carried in found if not is_carried],
                [event for event, is_carried in found if is_carried],
                (window, window.taken),
            ),
        )

    def _apart(self, at_once: int, session: ClientSession) -> Events:
        """The events that wait in the history, by their clocks."""
        found = self._events.find(
            PENDING,
            READ,
            sort=[("pending", ASCENDING)],
            hint=BY_PENDING,
            batch_size=at_once + 1,
            session=session,
        )
        with found:
            yield from found

    def _held(self, session: ClientSession) -> OfCustomers:
        """The events that customers carry, as `carried.waiting`."""
        return carried.waiting(self._customers, session)

    def together(self, first: Batch, second: Batch) -> Batch:
        one, other = first.token, second.token
        read = _Read(one.apart + other.apart, one.held + other.held, other.upto)
        return Batch([*first.events, *second.events], read)

    def done(self, batch: Batch) -> None:
        self._check()
        read: _Read = batch.token or _Read([], [])
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            for ids in batches(read.apart, _CHUNK):
                self._events.update_many({"_id": {"$in": ids}}, {"$unset": {"pending": ""}})
                crash.point("relay.marking")
            carried.move(self._customers, self._events, read.held)

    def _check(self) -> None:
        if self._lease is None:
            raise TemporaryError("the outbox is read without leading it", dependency="mongo")
        self._lease.check()

    def wait(self, seconds: float) -> None:
        if seconds < _LONG:
            time.sleep(seconds)
        else:
            self._doorbell.wait(seconds)

    def adopt(self) -> None:
        """Do nothing: each event itself says whether it is pending."""

    def events(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Known]:
        ids = [
            {"customer_id": Int64(customer_id), "version": Int64(version)} for customer_id, version in keys
        ]
        found: dict[tuple[int, int], Known] = {}
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            held = carried.of_customers(self._customers, [customer_id for customer_id, _ in keys])
            for some in batches(ids, _CHUNK):
                for each in self._events.find({"_id": {"$in": some}}, {"id": 1, "pending": 1}):
                    key = int(each["_id"]["customer_id"]), int(each["_id"]["version"])
                    found[key] = Known(each["id"], "pending" not in each)
        wanted = set(keys)
        return found | {key: Known(held[key], False) for key in held.keys() & wanted}

    def latest(self, limit: int) -> list[Sent]:
        # The relay inserts sent events into the history, so the order of insertion is that of sending.
        newest: list[Document] = [
            {"$limit": LATEST},
            {"$match": {"pending": {"$exists": False}}},
            {"$limit": limit},
            {"$project": {"id": 1}},
        ]
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            found = list(self._events.aggregate(newest, hint={"$natural": -1}))
        return [Sent(int(e["_id"]["customer_id"]), int(e["_id"]["version"]), e["id"]) for e in found]

    def depth(self) -> Depth:
        age: Document = {"$project": {"seconds": {"$divide": [{"$subtract": ["$$NOW", "$time"]}, 1000]}}}
        first: list[Document] = [{"$match": PENDING}, {"$sort": {"pending": 1}}, {"$limit": 1}, age]
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            held, held_age = carried.depth(self._customers)
            oldest = list(self._events.aggregate(first, hint=BY_PENDING))
            apart = self._events.count_documents(PENDING, hint=BY_PENDING) if oldest else 0
        return Depth(held + apart, max(held_age, oldest[0]["seconds"] if oldest else 0.0, 0.0))

    def source(self) -> str:
        if not self._source:
            # Stored, because a later account may lack the permission to read it; the database is the same.
            system = self._replica_set()
            kept = self._connection.keep(Fact.SOURCE, system or uuid.uuid4().hex)
            name = system if len(kept) == len(system) else kept
            self._source = f"urn:custsvc:mongo:{name}:{self._connection.database.name}"
        return self._source

    def _replica_set(self) -> str:
        """The id of the replica set, made once at its initiation; empty if we may not read it."""
        with self._connection.translated():
            try:
                answer = self._connection.client.admin.command("replSetGetConfig")
            except OperationFailure:
                return ""
        return str(answer["config"]["settings"].get("replicaSetId", ""))


def _event(found: Document) -> CustomerEvent:
    key = found["_id"]
    payload = found["payload"].encode()
    return stored_event(
        int(key["customer_id"]), int(key["version"]), found["op"], payload, found.get("traceparent")
    )
