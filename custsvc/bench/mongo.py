"""MongoDB for the benchmarks: a scratch database, and bare loops with custsvc's own statements."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bson import Int64
from pymongo import MongoClient, ReadPreference, ReplaceOne
from pymongo.client_session import ClientSession

from ..domain.events import Change
from ..domain.name_key import name_key
from ..domain.search import terms_of
from ..stores.mongo.connection import COMMITTED, DURABLE, SNAPSHOT, Document, translated
from ..stores.mongo.customers import customer_document

_MARK = 1000


def create_database(url: str, name: str) -> str:
    """The address of a new database; MongoDB creates it at the first write."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def drop_database(url: str) -> None:
    """Drop a database that `create_database` named."""
    with translated(), MongoClient[Document](url) as client:
        client.drop_database(urlsplit(url).path[1:])


def mark_all_pending(url: str) -> None:
    """Fill a drained outbox again."""
    with translated(), MongoClient[Document](url) as client:
        events = client.get_default_database()["customer_event"]
        events.update_many({}, {"$set": {"pending": Int64(1)}})


class Bare:
    """The bare loops: no checks, no handling of outages, no other process."""

    def __init__(self, url: str) -> None:
        self._client = MongoClient[Document](url)
        database = self._client.get_default_database(None, None, ReadPreference.PRIMARY, DURABLE, COMMITTED)
        self._customers = database["customer"]
        self._events = database["customer_event"]

    def insert(self, changes: Sequence[Change]) -> float:
        """insert_many of these customers and events; returns the seconds of the two calls alone."""
        customers = [customer_document(change, 1) for change in changes]
        events = [_event(change) for change in changes]
        started = time.perf_counter()
        self._customers.insert_many(customers)
        self._events.insert_many(events)
        return time.perf_counter() - started

    def events(self, limit: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """The outbox in pages of (key, value). Reading the next page unmarks the one before."""
        while True:
            found = list(
                self._events.with_options(read_concern=SNAPSHOT).find(
                    {"pending": {"$gt": 0}}, sort=[("pending", 1)], limit=limit, batch_size=limit + 1
                )
            )
            if not found:
                return
            yield [(b"%d" % each["_id"]["customer_id"], each["payload"].encode()) for each in found]
            ids = [each["_id"] for each in found]
            for start in range(0, len(ids), _MARK):
                some = {"_id": {"$in": ids[start : start + _MARK]}}
                self._events.update_many(some, {"$unset": {"pending": ""}})

    def apply(self, customers: Sequence[tuple[dict[str, Any], bytes]]) -> None:
        """Write the newest state of each customer: one transaction that reads the versions first."""
        documents = [_document(customer, doc) for customer, doc in customers]

        def work(session: ClientSession) -> None:
            ids = [each["_id"] for each in documents]
            found = self._customers.find({"_id": {"$in": ids}}, {"version": 1}, session=session)
            known = {each["_id"]: each["version"] for each in found}
            new = [each for each in documents if each["_id"] not in known]
            newer = [each for each in documents if each["version"] > known.get(each["_id"], each["version"])]
            if newer:
                changes = [ReplaceOne({"_id": each["_id"]}, each) for each in newer]
                self._customers.bulk_write(changes, ordered=False, session=session)
            if new:
                self._customers.insert_many(new, ordered=False, session=session)

        with self._client.start_session() as session:
            session.with_transaction(work, SNAPSHOT, DURABLE)

    def close(self) -> None:
        self._client.close()


def _document(customer: dict[str, Any], doc: bytes) -> Document:
    named = {name: customer[name] for name in ("deleted", "name", "email", "phone")}
    return {
        "_id": Int64(customer["id"]),
        "version": Int64(customer["version"]),
        **named,
        "created_on": dt.datetime.fromisoformat(customer["created_on"]),
        "updated_on": dt.datetime.fromisoformat(customer["updated_on"]),
        "doc": doc.decode(),
        "terms": terms_of(customer["name"], customer["email"], customer["phone"], customer["metadata"]),
        "name_key": name_key(customer["name"]),
        "keyed": Int64(customer["version"]),
    }


def _event(change: Change) -> Document:
    e = change.event
    return {
        "_id": {"customer_id": Int64(e.customer_id), "version": Int64(e.version)},
        "id": e.id,
        "op": e.op,
        "time": e.time,
        "payload": e.payload.decode(),
        "pending": Int64(1),
    }
