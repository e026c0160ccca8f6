"""The outbox divided into shares: each leader reads the pending events of its own customers.

Nothing is kept apart: each event itself says whether it is pending. The leaders of all shares hold the lease
of the whole outbox together, and each the lease of its share. The database cannot tell whose a customer is,
as it does not know the hash of Kafka's key; so a share reads everything that waits, and drops what is not its
own. To read only the ids first costs the server more: to find a document again by its id takes it three times
as long as to give it in the order of the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress, islice
from typing import Any

import pymongo
from pymongo import ASCENDING
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from ...ports.facts import Fact
from ...ports.outbox import Sent
from ...ports.shares import Share
from . import carried
from .connection import BULK_TIMEOUT, Connection, Document
from .lease import Lease
from .outbox import BY_PENDING, LATEST, LEASE, PENDING, READ, MongoOutbox
from .window import Events, OfCustomers

# Documents per answer of the server.
_AT_ONCE = 1000


class MongoShares:
    """The port `Shares` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def outbox(self, share: Share) -> MongoOutbox:
        return _ShareOutbox(self._connection, share)

    def join(self, shares: int) -> None:
        """Do nothing: each event itself says whether it is pending."""


class _ShareOutbox(MongoOutbox):
    """The outbox of one share."""

    def __init__(self, connection: Connection, share: Share) -> None:
        super().__init__(connection)
        self._share = share
        self._all_lease: Lease | None = None

    @contextmanager
    def lead(self) -> Iterator[bool]:
        name, meta = Fact.OUTBOX_LEASE, "custsvc_meta"
        group = f"shares {self._share.division}"
        mine = Lease(self._connection, meta, f"{name} {self._share.number}", LEASE)
        with mine.held() as ours:
            if not ours:
                yield False
                return
            whole = Lease(self._connection, meta, name, LEASE, group=group)
            with whole.held() as leading:
                self._lease, self._all_lease = (mine, whole) if leading else (None, None)
                try:
                    yield leading
                finally:
                    self._lease = self._all_lease = None
                    self._leave()

    def _check(self) -> None:
        super()._check()
        if self._all_lease is not None:
            self._all_lease.check()

    def _apart(self, at_once: int, session: ClientSession) -> Events:
        yield from self._ours(self._events, "pending", PENDING, BY_PENDING, at_once, session)

    def _held(self, session: ClientSession) -> OfCustomers:
        found = self._ours(
            self._customers, "outbox.pending", carried.WAITING, carried.BY_PENDING, _AT_ONCE, session
        )
        for customer in found:
            yield customer["outbox"]

    def _ours(
        self,
        collection: Collection[Document],
        clock: str,
        waiting: Document,
        hint: str,
        at_once: int,
        session: ClientSession,
    ) -> Events:
        """What waits of our customers, the oldest first."""
        some = min(at_once * self._share.of + 1, _AT_ONCE)
        found = collection.find(
            waiting,
            READ if collection is self._events else {"outbox": 1},
            sort=[(clock, ASCENDING)],
            hint=hint,
            batch_size=some,
            session=session,
        )
        with found:
            while page := list(islice(found, some)):
                yield from compress(page, self._share.has([_customer(each["_id"]) for each in page]))

    def latest(self, limit: int) -> list[Sent]:
        newest: list[Document] = [
            {"$limit": LATEST},
            {"$match": {"pending": {"$exists": False}}},
            {"$project": {"id": 1}},
        ]
        found: list[Sent] = []
        with (
            self._connection.translated(),
            pymongo.timeout(BULK_TIMEOUT),
            self._events.aggregate(
                newest, hint={"$natural": -1}, batchSize=10 * limit * self._share.of
            ) as events,
        ):
            while len(found) < limit and (some := list(islice(events, 10 * limit * self._share.of))):
                ours = self._share.has([_customer(each["_id"]) for each in some])
                found += [
                    Sent(int(each["_id"]["customer_id"]), int(each["_id"]["version"]), each["id"])
                    for each in compress(some, ours)
                ]
        return found[:limit]


def _customer(key: Any) -> int:
    """The customer that a key of an event, or its own, names."""
    return int(key["customer_id"] if isinstance(key, dict) else key)
