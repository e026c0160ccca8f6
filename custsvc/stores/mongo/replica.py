"""A copy in MongoDB: a batch is one transaction that reads the versions and writes the newer and positions.

Measured against one `$merge` per batch, the usual way: new customers 4.5 times as fast, changed ones 1.3
times, repeats 5 times; and the positions cannot come apart from what was applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bson import Int64
from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from ... import crash
from ...events import ReceivedEvent
from ..base import Applied, Positions
from .connection import BULK_TIMEOUT, Connection, Document
from .contents import MongoContents
from .documents import received_document

# Bytes of documents in one transaction: the server keeps all of it in memory until the commit.
_CHUNK = 16_000_000


def create_replica(database: Database[Document]) -> None:
    """The migration of a copy's positions."""
    database.create_collection("position")


class MongoReplica(MongoContents):
    """The port `Replica` on MongoDB."""

    def __init__(self, connection: Connection, collection: str = "customer") -> None:
        super().__init__(connection, collection)
        self._positions = connection["position"]

    def positions(self, topic: str) -> dict[int, int]:
        with self._connection.translated():
            found = self._positions.find({"_id.topic": topic})
            return {int(each["_id"]["partition"]): int(each["next"]) for each in found}

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        newest: dict[int, ReceivedEvent] = {}
        for event in events:
            known = newest.get(event.customer_id)
            if known is None or event.version > known.version:
                newest[event.customer_id] = event
        *chunks, last = _chunks([newest[customer_id] for customer_id in sorted(newest)])
        written = sum(self._apply(chunk, topic, {}) for chunk in chunks)
        written += self._apply(last, topic, positions)
        return Applied(written, len(events) - written)

    def _apply(self, events: list[ReceivedEvent], topic: str, positions: Positions) -> int:
        documents = [received_document(event) for event in events]
        moves = [_move(topic, partition, positions[partition]) for partition in sorted(positions)]

        def work(session: ClientSession) -> int:
            # Another process that writes one of these meanwhile makes this transaction start again. In the
            # order of id, so that of two such processes one gets on.
            known = self._versions([each["_id"] for each in documents], session)
            new = [each for each in documents if each["_id"] not in known]
            newer = [each for each in documents if each["version"] > known.get(each["_id"], each["version"])]
            if newer:
                changes = [ReplaceOne({"_id": each["_id"]}, each) for each in newer]
                self._customers.bulk_write(changes, ordered=False, session=session)
            if new:
                self._customers.insert_many(new, ordered=False, session=session)
            if moves:
                self._positions.bulk_write(moves, session=session)
            crash.point("replicate.writing")
            return len(new) + len(newer)

        return self._connection.transaction(work, timeout=BULK_TIMEOUT)

    def _versions(self, ids: list[Int64], session: ClientSession) -> dict[int, int]:
        found = self._customers.find(
            {"_id": {"$in": ids}}, {"version": 1}, batch_size=len(ids) + 1, session=session
        )
        return {each["_id"]: each["version"] for each in found}


def _chunks(events: list[ReceivedEvent]) -> Iterator[list[ReceivedEvent]]:
    """`events` in parts of bounded size, at least one."""
    chunk: list[ReceivedEvent] = []
    size = 0
    for event in events:
        if chunk and size + len(event.value) > _CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append(event)
        size += len(event.value)
    yield chunk


def _move(topic: str, partition: int, offset: int) -> UpdateOne:
    # Never back: a process that lost the partition meanwhile must not undo its successor's progress.
    key = {"topic": topic, "partition": Int64(partition)}
    return UpdateOne({"_id": key}, {"$max": {"next": Int64(offset)}}, upsert=True)
