"""Copies of the customers of a database beside them, made by the database itself: faster than a seed.

A copy has an id, an address and an event of its own; its name, number and metadata are those of the original,
so names, numbers and cities are as common as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import Any, NamedTuple

import psycopg2
from pymongo import MongoClient

from custsvc.ports.store import Store
from custsvc.stores.mongo.queries import event_key

_AT_ONCE = 5000
_THREADS = 4
_HOST = "@example.com"

_CUSTOMERS = """
    INSERT INTO customer (id, version, deleted, name, email, phone, created_on, updated_on, doc, terms,
        name_key, keyed)
    SELECT id + %(offset)s, version, deleted, name, replace(email, %(was)s, %(now)s), phone, created_on,
        updated_on, replace(replace(doc, '{"id":' || id, '{"id":' || (id + %(offset)s)), %(was)s, %(now)s),
        terms || %(term)s::tsvector, name_key, keyed
    FROM customer WHERE id >= %(first)s AND id < %(end)s ORDER BY id
"""
_EVENTS = """
    INSERT INTO customer_event (id, customer_id, version, op, created, payload, traceparent)
    SELECT overlay(id::text PLACING %(mark)s FROM 1)::uuid, customer_id + %(offset)s, version, op, created,
        replace(replace(replace(overlay(payload PLACING %(mark)s FROM 8),
            '"customer_id":' || customer_id || ',', '"customer_id":' || (customer_id + %(offset)s) || ','),
            '"after_change":{"id":' || customer_id || ',',
            '"after_change":{"id":' || (customer_id + %(offset)s) || ','),
            %(was)s, %(now)s), traceparent
    FROM customer_event WHERE customer_id >= %(first)s AND customer_id < %(end)s ORDER BY customer_id
"""


class _Part(NamedTuple):
    """The originals from `first` to before `end`, whose copies get ids that are higher by `offset`."""

    offset: int
    first: int
    end: int

    @property
    def values(self) -> dict[str, Any]:
        now, mark = f".{self.offset}{_HOST}", f"{self.offset:08x}"
        own = {"was": _HOST, "now": now, "term": f"'{self.offset}'", "mark": mark}
        return self._asdict() | own


def multiply(store: Store, url: str, there: int, size: int, progress: Callable[[int], None]) -> None:
    """Copy the first `there` customers until there are `size`. Their events are as sent as the originals'."""
    make = _Postgres(url) if store.name == "postgres" else _Mongo(url)
    with closing(make), ThreadPoolExecutor(_THREADS) as pool:
        for done in as_completed([pool.submit(make, part) for part in _parts(there, size)]):
            progress(done.result())
    store.customers.ids_above(size)


def _parts(there: int, size: int) -> Iterator[_Part]:
    for offset in range(there, size, there):
        most = min(there, size - offset)
        for first in range(1, most + 1, _AT_ONCE):
            yield _Part(offset, first, min(first + _AT_ONCE, most + 1))


class _Postgres:
    """Copies parts, with a connection for each thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._own = threading.local()
        self._all: list[Any] = []

    def __call__(self, part: _Part) -> int:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = psycopg2.connect(self._url)
            self._all.append(connection)
        with connection, connection.cursor() as cursor:
            cursor.execute(_CUSTOMERS, part.values)
            cursor.execute(_EVENTS, part.values)
        return part.end - part.first

    def close(self) -> None:
        for connection in self._all:
            connection.close()


class _Mongo:
    """Copies parts by `$merge`."""

    def __init__(self, url: str) -> None:
        self._client = MongoClient[dict[str, Any]](url)
        self._database = self._client.get_default_database()

    def __call__(self, part: _Part) -> int:
        self._merge("customer", {"$gte": part.first, "$lt": part.end}, _customer(part))
        events = {"$gte": event_key(part.first, 0), "$lt": event_key(part.end, 0)}
        self._merge("customer_event", events, _event(part))
        return part.end - part.first

    def _merge(self, name: str, ids: dict[str, Any], fields: dict[str, Any]) -> None:
        into = {"into": name, "whenMatched": "fail", "whenNotMatched": "insert"}
        steps = [{"$match": {"_id": ids}}, {"$set": fields}, {"$merge": into}]
        self._database[name].aggregate(steps, hint="_id_")

    def close(self) -> None:
        self._client.close()


def _customer(part: _Part) -> dict[str, Any]:
    own = {"$add": ["$_id", part.offset]}
    doc = _replaced("$doc", _text('{"id":', "$_id"), _text('{"id":', own))
    return {
        "_id": own,
        "email": _addressed("$email", part),
        "doc": _addressed(doc, part),
        "terms": {"$concatArrays": ["$terms", [str(part.offset)]]},
    }


def _event(part: _Part) -> dict[str, Any]:
    its, mark = "$_id.customer_id", part.values["mark"]
    own = {"$add": [its, part.offset]}
    payload: Any = {"$concat": ['{"id":"', mark, {"$substrBytes": ["$payload", 15, -1]}]}
    for name in ('"customer_id":', '"after_change":{"id":'):
        payload = _replaced(payload, _text(name, its, ","), _text(name, own, ","))
    return {
        "_id": {"customer_id": own, "version": "$_id.version"},
        "id": {"$concat": [mark, {"$substrBytes": ["$id", 8, -1]}]},
        "payload": _addressed(payload, part),
    }


def _text(before: str, number: Any, after: str = "") -> dict[str, Any]:
    return {"$concat": [before, {"$toString": number}, after]}


def _replaced(text: Any, find: Any, replacement: Any) -> dict[str, Any]:
    return {"$replaceOne": {"input": text, "find": find, "replacement": replacement}}


def _addressed(text: Any, part: _Part) -> dict[str, Any]:
    return _replaced(text, _HOST, part.values["now"])
