"""Old history in MongoDB: walked along the time of events, deleted by key in small commands.

A TTL index or a collection per month was considered and left (docs/design.md): the newest event of each
customer must stay, and neither looks at other events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import pymongo
from pymongo import ASCENDING, DeleteOne
from pymongo.database import Database

from ...domain.customers import format_time, parse_time
from ...ports.history import KEPT_OPS, Old, Passage
from ...runtime.batches import batches
from .connection import BULK_TIMEOUT, Connection, Document
from .queries import event_key

_BY_TIME: Final = "time_1"
# Ranges of versions in one query.
_RANGES: Final = 100
_CHUNK: Final = 500


def create_history(database: Database[Document]) -> None:
    """The migration of old history: the walk over events by age."""
    database["customer_event"].create_index([("time", ASCENDING)], name=_BY_TIME)


class MongoHistory:
    """The port `History` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events = connection["customer_event"]

    def outdated(
        self,
        mark: str,
        before: dt.datetime,
        limit: int,
        *,
        parked: Callable[[], Collection[int]],
        known: Mapping[int, int],
    ) -> Passage:
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            found = self._pass(mark, before, limit)
            passed = _until_waiting(found)
            waiting = frozenset(parked())
            newest: dict[int, int] = {}
            for each in passed:
                customer_id, version = _key(each)
                if customer_id not in waiting:
                    newest[customer_id] = max(version, newest.get(customer_id, 0))
            outdated = self._below(newest, known)
        since = passed[-1]["time"] if passed else None
        return Passage(
            outdated,
            len(passed),
            format_time(since) if since else mark,
            since,
            len(passed) < max(limit, len(found)),
        )

    def _pass(self, mark: str, before: dt.datetime, limit: int) -> list[Document]:
        """The events after the time `mark`: about `limit`, but all of the last one's time."""
        times: Document = {"$lt": before, **({"$gt": parse_time(mark)} if mark else {})}
        page = self._find({"time": times}, limit)
        if len(page) < limit:
            return page
        return self._find({"time": {**times, "$lte": page[-1]["time"]}}, 0)

    def _find(self, where: Document, limit: int) -> list[Document]:
        found = self._events.find(where, {"time": 1, "pending": 1}, hint=_BY_TIME, limit=limit)
        return list(found.sort([("time", ASCENDING)]))

    def _below(self, newest: dict[int, int], known: Mapping[int, int]) -> list[Old]:
        """The events of these customers below a version and above the known one, except those that stay."""
        ranges = [
            {
                "_id": {
                    "$gt": event_key(customer_id, known.get(customer_id, 0)),
                    "$lt": event_key(customer_id, version),
                }
            }
            for customer_id, version in newest.items()
            if version > 1
        ]
        stays = {"op": {"$nin": list(KEPT_OPS)}, "pending": {"$exists": False}}
        found = [
            Old(*_key(each), each["payload"].encode())
            for some in batches(ranges, _RANGES)
            for each in self._events.find({"$or": some, **stays}, {"payload": 1})
        ]
        return sorted(found)

    def stored(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        ids = [event_key(customer_id, version) for customer_id, version in keys]
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            return {
                _key(each): each["payload"].encode()
                for some in batches(ids, _CHUNK)
                for each in self._events.find({"_id": {"$in": some}}, {"payload": 1})
            }

    def drop(self, events: Sequence[Old]) -> int:
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            return sum(
                self._events.bulk_write([_deletion(each) for each in some], ordered=False).deleted_count
                for some in batches(events, _CHUNK)
            )


def _deletion(old: Old) -> DeleteOne:
    return DeleteOne({"_id": event_key(old.customer_id, old.version), "payload": old.payload.decode()})


def _key(found: Document) -> tuple[int, int]:
    key: Any = found["_id"]
    return int(key["customer_id"]), int(key["version"])


def _until_waiting(found: Sequence[Document]) -> Sequence[Document]:
    """The events before the time of the first one that still waits in the outbox."""
    times = [each["time"] for each in found if "pending" in each]
    return [each for each in found if each["time"] < min(times)] if times else found
