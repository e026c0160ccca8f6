"""A copy in MongoDB: one transaction per batch reads the versions, writes newer ones and the positions.

Measured against one `$merge` per batch, the usual way: new customers 4.5 times as fast, changed ones 1.3
times, repeats 5 times; and the positions always match the applied events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

from bson import Int64, encode
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from ...domain.received import ReceivedEvent, newest
from ...errors import Superseded, TemporaryError
from ...ports.facts import Fact
from ...ports.replica import Applied, Positions
from ...runtime import crash
from . import shadow
from .connection import BULK_TIMEOUT, Connection, Document, make_collection, translated
from .contents import MongoContents
from .documents import received_document

# Bytes of documents in one transaction: the server keeps all of it in memory until the commit.
_CHUNK = 16_000_000
# Documents in one transaction: the changes of a long transaction cannot leave the server's cache, and with a
# small cache the server rolls the transaction back again and again.
_MOST = 1000


class _Encoded(NamedTuple):
    """A customer encoded for the server: it takes a tenth of the memory, and is ready to send."""

    id: Int64
    version: Int64
    document: RawBSONDocument


def _encoded(event: ReceivedEvent) -> _Encoded:
    document = received_document(event)
    return _Encoded(document["_id"], document["version"], RawBSONDocument(encode(document)))


def create_replica(database: Database[Document]) -> None:
    """The migration of a copy's positions."""
    make_collection(database, "position")


class MongoReplica(MongoContents):
    """The port `Replica` on MongoDB."""

    def __init__(self, connection: Connection, collection: str = "customer", *, prefix: str = "") -> None:
        super().__init__(connection, collection)
        self._positions = connection["position"]
        self._meta = connection["custsvc_meta"]
        # Set by `begin`; None for a shadow, and before that.
        self._generation: str | None = None
        self._prefix = prefix

    def positions(self, topic: str) -> dict[int, int]:
        with self._connection.translated():
            return shadow.positions(self._connection, self._prefix + topic)

    def begin(self, topic: str) -> dict[int, int]:
        shadow.finish(self._connection)
        if shadow.is_held(self._connection):
            raise TemporaryError("the copy is about to be swapped", dependency="mongo")
        with self._connection.translated():
            self._generation = self._now()
        return self.positions(topic)

    def _now(self, session: ClientSession | None = None) -> str:
        """How often the copy was rebuilt, or a mark that it is being swapped."""
        found = self._meta.find_one({"_id": Fact.GENERATION}, session=session)
        return str(found["value"]) if found else "0"

    def rebuilding(self) -> AbstractContextManager[bool]:
        return shadow.alone(self._connection)

    def shadow(self) -> MongoReplica:
        return MongoReplica(self._connection, shadow.make(self._connection), prefix=shadow.PREFIX)

    def drop_shadow(self) -> None:
        shadow.drop(self._connection)

    def hold(self, seconds: float) -> None:
        shadow.hold(self._connection, seconds)

    def swap(self, topic: str, *, anyway: bool = False) -> bool:
        return shadow.swap(self._connection, topic, anyway=anyway)

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        return self.applying(events)(topic, positions)

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        with translated():
            chunks = [[_encoded(event) for event in chunk] for chunk in _chunks(newest(events))]
        return partial(self._write, chunks, len(events), self._generation)

    def _write(
        self,
        chunks: list[list[_Encoded]],
        events: int,
        generation: str | None,
        topic: str,
        positions: Positions,
    ) -> Applied:
        *before, last = chunks
        written = sum(self._write_chunk(chunk, generation, topic, {}) for chunk in before)
        written += self._write_chunk(last, generation, topic, positions)
        return Applied(written, events - written)

    def _write_chunk(
        self, customers: list[_Encoded], generation: str | None, topic: str, positions: Positions
    ) -> int:
        moves = [_move(self._prefix + topic, part, positions[part]) for part in sorted(positions)]

        def work(session: ClientSession) -> int:
            if generation is not None and generation != self._now(session):
                raise Superseded("the copy was rebuilt meanwhile", dependency="mongo")
            # If another process writes one of these meanwhile, this transaction starts again. In the order of
            # id, so that one of two such processes makes progress.
            known = self._versions([each.id for each in customers], session)
            new = [each.document for each in customers if each.id not in known]
            newer = [each for each in customers if each.version > known.get(each.id, each.version)]
            if newer:
                changes: list[ReplaceOne[Document]] = [ReplaceOne({"_id": e.id}, e.document) for e in newer]
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
    """Split `events` into parts of bounded size; at least one part."""
    chunk: list[ReceivedEvent] = []
    size = 0
    for event in events:
        if chunk and (len(chunk) == _MOST or size + len(event.value) > _CHUNK):
            yield chunk
            chunk, size = [], 0
        chunk.append(event)
        size += len(event.value)
    yield chunk


def _move(topic: str, partition: int, offset: int) -> UpdateOne:
    # Positions never move back: a process that lost the partition must not undo its successor's progress.
    key = {"topic": topic, "partition": Int64(partition)}
    return UpdateOne({"_id": key}, {"$max": {"next": Int64(offset)}}, upsert=True)
